"""The parts of `papers/parasol.py`: parametric style control against true drawings."""
