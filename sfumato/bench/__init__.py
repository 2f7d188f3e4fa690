"""Benchmarks of editing methods.

`pairs` has a ground-truth image for every edit; `piebench` reads the published layout of PIE-Bench; `runner` runs
settings of methods over either of them, records failed edits and continues an interrupted run.
"""
