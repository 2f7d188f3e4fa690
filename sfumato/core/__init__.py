"""The mathematics of the reverse process: schedule, step and its inverse, the one loop, guidance, seeded noise.

Tensors only: nothing here knows files or diffusers.
"""
