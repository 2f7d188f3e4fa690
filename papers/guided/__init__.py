"""The parts of `papers/guidance.py`: pixel measurements for guidance methods."""
