"""One script per paper: its claims as figures and numbers that were measured here."""
