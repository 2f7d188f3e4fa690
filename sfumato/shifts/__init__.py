"""Shifts: objects that move the handles of the reverse process."""
