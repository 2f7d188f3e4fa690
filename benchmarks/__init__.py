"""Benchmarks of speed and cost, compared with the alternatives that a user has."""
