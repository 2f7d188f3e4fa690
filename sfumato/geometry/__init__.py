"""The Riemannian geometry of the latent space (Park, Kwon, Jo, Uh, arXiv 2302.12469).

The bottleneck of the U-Net gives the space of x_t a metric; the directions that are longest in it change what a
picture shows. Nothing has to be trained and nothing labelled. docs/geometry.md is the guide.
"""

from sfumato.geometry.basis import Basis, local_basis
from sfumato.geometry.directions import Directions, parse_weights
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
