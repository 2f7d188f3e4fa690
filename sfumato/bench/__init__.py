"""Benchmarks of editing methods.

`pairs` contains a ground-truth image for every edit; `piebench` reads the published layout of PIE-Bench. `runner` runs
methods with given settings on either benchmark, records failed edits and resumes interrupted runs.
"""
