"""The mathematics of the reverse process: noise schedule, step and its inverse, sampling loop, guidance, seeded noise,
default batch sizes.

This package works on tensors only; it does not read files or import diffusers.
"""
