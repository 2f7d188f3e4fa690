"""The work behind `Inverted.reconstruct`."""

from collections.abc import Generator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sfumato.api.group import decoded
from sfumato.api.report import parameters, reconstruction_psnr
from sfumato.api.result import Result
from sfumato.api.run import Progress, following
from sfumato.core.step import wide
from sfumato.images import to_uint8
from sfumato.inversion import replay

if TYPE_CHECKING:
    from sfumato.api.inverted import Inverted


def reconstructing(inverted: "Inverted", residual: bool) -> Generator[Progress, None, Result]:
    """Replay every step of every group under its source prompt; the errors are kept with the inversion."""
    pixels: dict[int, NDArray[np.uint8]] = {}
    quality: dict[int, float | None] = {}
    for n, group in enumerate(inverted.groups):
        work = replay(group.guidance(), group.inversion, group.condition)
        x0 = yield from following(
            work, "reconstruct", n, len(inverted.groups), group.indices, group.network, group.size
        )
        errors = (wide(x0) - wide(group.inversion.x0)).abs().flatten(1).amax(dim=1)
        inverted.errors.update(zip(group.indices, errors.tolist(), strict=True))
        pictures = decoded(group.network, x0, group.size)
        quality |= dict(zip(group.indices, reconstruction_psnr(pictures, group.source), strict=True))
        if residual:
            pictures = pictures + (group.source - group.autoencoded)
        pixels |= {index: to_uint8(each) for index, each in zip(group.indices, pictures, strict=True)}
    report = {
        "reconstruction_latent_max_error": inverted.latent_error,
        "parameters": {"method": inverted.method.name, **parameters(inverted.params)},
        "metrics": {"reconstruction_psnr": [quality[index] for index in range(len(inverted))]},
    }
    recipes = [{"operation": "reconstruct", **inverted.recipe(index)} for index in range(len(inverted))]
    return Result([pixels[index] for index in range(len(inverted))], inverted.pictures, recipes, report)
