"""Benchmarks of editing: what an edit should have given is known, and every method is measured against it.

`pairs` has a true target picture for every edit; `piebench` reads the published layout of PIE-Bench; `runner` runs
settings of methods over either and survives whatever happens on the way.
"""
