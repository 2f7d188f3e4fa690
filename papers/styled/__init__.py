"""The parts of `papers/parasol.py`: comparison of parametric style control with ground-truth drawings."""
