"""Datasets: the emoji corpus and its build, fixed splits, and folders of captioned images.

This subpackage imports neither torch nor the models.
"""
