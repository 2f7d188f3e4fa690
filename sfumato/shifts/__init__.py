"""Shifts: callbacks that change quantities of the reverse process; see `sfumato.core.shift.Shift`."""
