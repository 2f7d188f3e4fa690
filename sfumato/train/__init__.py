"""Training of autoencoders, dual encoders and diffusion models: one loop, configured by TOML recipes."""
