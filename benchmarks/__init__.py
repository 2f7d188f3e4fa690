"""Benchmarks of speed, memory and cost of sfumato, compared with alternative implementations."""
