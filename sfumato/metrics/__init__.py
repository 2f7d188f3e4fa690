"""Metrics of edits: of image pairs (PSNR, SSIM, LPIPS, ...), of images and texts (CLIP) and of sets of images.

`METRICS` contains every metric of an edit, `Evaluator` computes all of them in one call, and the decorator `metric`
registers a new one.
"""

from sfumato.metrics.direction import directional_similarity
from sfumato.metrics.edit_batch import NEEDS, EditBatch
from sfumato.metrics.evaluator import SHIPPED, Evaluator
from sfumato.metrics.frechet import feature_distance, frechet_distance, gaussian_statistics
from sfumato.metrics.pairs import mse, psnr, ssim
from sfumato.metrics.perceptual import PerceptualDistance, load_perceptual, lpips
from sfumato.metrics.registry import METRICS, Metric, Quantity, measurable, measure, metric
from sfumato.metrics.retrieval import r_precision, retrieved
from sfumato.metrics.structure import self_similarity, structure_distance
from sfumato.metrics.text import DualEncoder
from sfumato.metrics.vision import VisionEncoder

__all__ = [
    "METRICS",
    "NEEDS",
    "SHIPPED",
    "DualEncoder",
    "EditBatch",
    "Evaluator",
    "Metric",
    "PerceptualDistance",
    "Quantity",
    "VisionEncoder",
    "directional_similarity",
    "feature_distance",
    "frechet_distance",
    "gaussian_statistics",
    "load_perceptual",
    "lpips",
    "measurable",
    "measure",
    "metric",
    "mse",
    "psnr",
    "r_precision",
    "retrieved",
    "self_similarity",
    "ssim",
    "structure_distance",
]
