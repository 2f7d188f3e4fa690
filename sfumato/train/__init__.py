"""Training: one loop for autoencoders, dual encoders and diffusion models, driven by TOML recipes."""
