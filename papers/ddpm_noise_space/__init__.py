"""The parts of `papers/edit_friendly.py` ("An Edit Friendly DDPM Noise Space", CVPR 2024, arXiv 2304.06140)."""
