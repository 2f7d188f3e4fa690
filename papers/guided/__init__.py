"""The parts of `papers/guidance.py`: measurements of the guidance family on pixels."""
