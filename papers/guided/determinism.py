"""Claim: with sigma = 0 the reverse process is a function of x_T."""

import numpy as np

from papers.guided.study import Numbers, Study
from sfumato.api.group import decoded
from sfumato.core.guidance import classifier_free
from sfumato.core.loop import fresh_noise, reverse
from sfumato.editing.generate import first_latent
from sfumato.images import to_uint8

VERSION = 3


def measure(study: Study) -> Numbers:
    """Largest difference in grey levels between two images from the same x_T with different noise seeds, by eta.

    For eta = 0 no noise is drawn.
    """
    network, count = study.model.network, study.size.generated
    _, captions = study.images(None, count)
    size = network.native_size
    condition, shape = network.condition(captions, size=size), network.latent_shape(*size)
    guided = classifier_free(network, network.condition([""] * count, size=size), [3.0] * count)
    x = first_latent(guided, shape, range(count))
    timesteps = network.schedule.timesteps(study.size.steps)
    found: Numbers = {}
    for eta in (0.0, 1.0):
        pair = []
        for seed in (0, 1000):
            maps = fresh_noise([seed + n for n in range(count)])
            *_, end = reverse(guided, x, timesteps, condition, eta=eta, noise_maps=maps)
            pixels = decoded(network, end.x_prev, size[::-1])
            pair.append(np.stack([to_uint8(each) for each in pixels]).astype(int))
        found[f"{eta:g}"] = abs(pair[0] - pair[1]).max(axis=(1, 2, 3)).tolist()
    return found
