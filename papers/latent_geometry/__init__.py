"""The parts of `papers/geometry.py`: measurements, figures and the claims of the paper."""
