"""Diffusion models: loading, conditions, and taps that read or replace features and attention maps."""
