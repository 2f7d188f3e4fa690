"""Editing directions from the Riemannian geometry of the latent space (Park, Kwon, Jo, Uh, arXiv 2302.12469).

The map from x_t to the bottleneck of the U-Net defines a pullback metric on the space of x_t. The unit vectors with
the largest norm in this metric are directions that change the content of the image. The method needs no training and no
labels. See docs/geometry.md for a guide.
"""

from sfumato.geometry.basis import Basis, local_basis
from sfumato.geometry.directions import Directions
from sfumato.geometry.edit import Moved, MoveLatent, recorded_moves
from sfumato.geometry.jacobian import BottleneckMap, Jacobian, Pool, pullback_norm
from sfumato.geometry.matching import Matched, mean_directions, principal_directions
from sfumato.geometry.metric import geodesic_distance, principal_angles, segment_lengths
from sfumato.geometry.normalise import gain, normalised
from sfumato.geometry.passes import Passes, counting_passes
from sfumato.geometry.paths import PathLengths, path, path_lengths, perceptual_lengths
from sfumato.geometry.search import find_directions
from sfumato.geometry.shooting import Shot, pull_back, shoot, shoot_straight, transport
from sfumato.geometry.spectrum import Spectrum, power_spectrum
from sfumato.mixtures import parse_weights

__all__ = [
    "Basis",
    "BottleneckMap",
    "Directions",
    "Jacobian",
    "Matched",
    "MoveLatent",
    "Moved",
    "Passes",
    "PathLengths",
    "Pool",
    "Shot",
    "Spectrum",
    "counting_passes",
    "find_directions",
    "gain",
    "geodesic_distance",
    "local_basis",
    "mean_directions",
    "normalised",
    "parse_weights",
    "path",
    "path_lengths",
    "perceptual_lengths",
    "power_spectrum",
    "principal_angles",
    "principal_directions",
    "pull_back",
    "pullback_norm",
    "recorded_moves",
    "segment_lengths",
    "shoot",
    "shoot_straight",
    "transport",
]
