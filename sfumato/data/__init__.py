"""Data: the emoji corpus and its build, fixed splits, and folders of captioned images.

A leaf of the package: imports neither torch nor the models.
"""
