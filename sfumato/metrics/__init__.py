"""What an edit did, in numbers: pairs of pictures, pictures against text, sets of pictures."""

from sfumato.metrics.frechet import feature_distance, frechet_distance, gaussian_statistics
from sfumato.metrics.pairs import mse, psnr, ssim
from sfumato.metrics.retrieval import r_precision, retrieved
from sfumato.metrics.text import DualEncoder

__all__ = [
    "DualEncoder",
    "feature_distance",
    "frechet_distance",
    "gaussian_statistics",
    "mse",
    "psnr",
    "r_precision",
    "retrieved",
    "ssim",
]
