"""The parts of `papers/geometry.py`: what is measured, how it is drawn, and what the paper says about it."""
