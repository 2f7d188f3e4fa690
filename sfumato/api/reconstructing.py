"""Implementation of `Inverted.reconstruct`."""

from collections.abc import Generator

import numpy as np
from numpy.typing import NDArray

from sfumato.api.finish import finished
from sfumato.api.group import decoded, padded_size
from sfumato.api.report import parameters, reconstruction_psnr
from sfumato.api.result import Result
from sfumato.api.run import Progress, following
from sfumato.api.sources import Sources
from sfumato.core.step import to_float64
from sfumato.inversion import replay


def reconstructing(sources: Sources, residual: bool) -> Generator[Progress, None, Result]:
    """Replay all groups under the condition of their inversion; store the errors of x_0 in `sources.errors`.

    Args:
        sources: inverted images.
        residual: whether to add back the reconstruction error of the autoencoder.

    Returns:
        The reconstructed images with their recipes and the report.
    """
    pixels: dict[int, NDArray[np.uint8]] = {}
    quality: dict[int, float | None] = {}
    for n, group in enumerate(sources.groups):
        x0 = group.inversion.x0.float()
        size = padded_size(group.network, group.size)
        guided = sources.model.guided(group.inversion.guidance_scales, size, extra=group.extra)
        guided, condition = sources.params.inverted_under(group.network, guided, group.condition, x0)
        work = replay(guided, group.inversion, condition)
        x0 = yield from following(work, "reconstruct", n, len(sources.groups), group.indices, group.network, group.size)
        errors = (to_float64(x0) - to_float64(group.inversion.x0)).abs().flatten(1).amax(dim=1)
        sources.errors.update(zip(group.indices, errors.tolist(), strict=True))
        reconstructed = decoded(group.network, x0, group.size)
        quality |= dict(zip(group.indices, reconstruction_psnr(reconstructed, group.source), strict=True))
        if residual:
            reconstructed = reconstructed + (group.source - group.autoencoded)
        rows = zip(group.indices, reconstructed, group.source, group.images, strict=True)
        pixels |= {index: finished(each, source, image, None) for index, each, source, image in rows}
    report = {
        "reconstruction_latent_max_error": sources.latent_error,
        "parameters": {"method": sources.method.name, **parameters(sources.params)},
        "metrics": {"reconstruction_psnr": [quality[index] for index in range(len(sources))]},
    }
    recipes = [{"operation": "reconstruct", **sources.recipe(index)} for index in range(len(sources))]
    return Result([pixels[index] for index in range(len(sources))], sources.images, recipes, report)
