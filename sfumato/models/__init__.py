"""What is edited: loading a diffusion model, its conditions, and taps into its network."""
