"""Shifts: objects that move the handles of the reverse process."""

from sfumato.shifts.mask import HoldOutside

__all__ = ["HoldOutside"]
