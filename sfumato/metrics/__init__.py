"""What an edit did, in numbers: pairs of pictures, pictures against text, sets of pictures.

`Judge` measures everything about an edit at once; `METRICS` names what it measures.
"""

from sfumato.metrics.direction import directional_similarity
from sfumato.metrics.frechet import feature_distance, frechet_distance, gaussian_statistics
from sfumato.metrics.judge import SHIPPED, Judge
from sfumato.metrics.names import METRICS, Metric
from sfumato.metrics.pairs import mse, psnr, ssim
from sfumato.metrics.perceptual import PerceptualDistance, load_perceptual, lpips
from sfumato.metrics.retrieval import r_precision, retrieved
from sfumato.metrics.structure import self_similarity, structure_distance
from sfumato.metrics.text import DualEncoder
from sfumato.metrics.vision import VisionTower

__all__ = [
    "METRICS",
    "SHIPPED",
    "DualEncoder",
    "Judge",
    "Metric",
    "PerceptualDistance",
    "VisionTower",
    "directional_similarity",
    "feature_distance",
    "frechet_distance",
    "gaussian_statistics",
    "load_perceptual",
    "lpips",
    "mse",
    "psnr",
    "r_precision",
    "retrieved",
    "self_similarity",
    "ssim",
    "structure_distance",
]
