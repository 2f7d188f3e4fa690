"""The mathematics of the reverse process: schedule, step and its inverse, the one loop, guidance, seeded noise,
how many rows go through a network together.

Tensors only: nothing here knows files or diffusers.
"""
