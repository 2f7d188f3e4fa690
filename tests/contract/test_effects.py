"""Every method changes an edit, over every inversion that it accepts and on every model layout that it supports."""

from functools import cache

import pytest

from sfumato.editing.registry import METHODS
from sfumato.options.inversions import EVERY
from tests.contract.composed import CHANGING, IMAGES, RUN, SOURCE, STEPS, TARGET, acting

CASES = [(name, kind) for name, method in METHODS.items() for kind in method.accepts]
PROMPTED = ("ddim", "edit-friendly", "native-ddpm", "sdedit")
"""Methods without shifts, which change an image by the target prompt alone."""
BY_WORDS = (*PROMPTED, "parasol", "plug-and-play")
"""Methods that replace tokens or need two prompts to have an effect, but are not refused for a model without them."""
WITHOUT_NOISE = {"asyrp": {"t_boost": 0}, "diffuseit": {"resample": 1}, "pullback": {"boost": 0.0}}
"""Options without the fresh noise of these methods, which would change an edit by itself."""
TEXT_FREE = {"diffuseit": {"target_text": "blue cat"}}
"""Options in place of prompts, for models without text encoder."""
LEAST = 3e-3
"""Smallest change of the latents as a fraction of their largest value; rounding errors change them by about 1e-6."""


@pytest.fixture(scope="module")
def inverted_on(models):
    """The first image inverted on a layout; each result is computed once."""

    @cache
    def inverted(layout, kind):
        model = models(layout)
        prompt = SOURCE[0] if model.network.takes_text else ""
        by = ("plug-and-play", {"inversion": kind}) if kind in EVERY else (kind, {})
        return model.invert(IMAGES[0], prompt, method=by[0], steps=STEPS, **by[1])

    return inverted


@pytest.fixture(scope="module")
def options_on(models, tmp_path_factory):
    """Options with which a method acts on a layout."""

    @cache
    def options(layout, name):
        network = models(layout).network
        files = acting(name, network, tmp_path_factory.mktemp(name), STEPS, cells=cells(network), factor=20.0)
        more = {} if network.takes_text else TEXT_FREE.get(name, {})
        return CHANGING.get(name, {}) | files | WITHOUT_NOISE.get(name, {}) | more

    return options


def cells(network):
    """Height and width of the latents of the first image."""
    return network.latent_shape(*reversed(IMAGES[0].size))[1:]


def latents(inverted, prompt, methods):
    """The latents after the last step, without decoding and metrics."""
    run = inverted.edit_steps(prompt, methods=methods, skip=RUN["skip"], **guidance(inverted, prompt))
    for progress in run:
        if progress.done == progress.total:
            break
    run.close()
    return progress.state.x_prev


def guidance(inverted, prompt):
    return {"guidance_scale": RUN["guidance_scale"]} if prompt else {}


@pytest.fixture(scope="module")
def plain_on(inverted_on):
    """The latents of an edit without any method; each result is computed once."""
    return cache(lambda layout, kind, prompt: latents(inverted_on(layout, kind), prompt, []))


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_method_changes_the_edit(models, layout, inverted_on, options_on, plain_on, name, kind):
    """Compared with the same edit without it; methods that run under the source prompt, with an edit to that prompt."""
    method, takes_text = METHODS.find(name), models(layout).network.takes_text
    if not takes_text and (method.params.needs_text or name in BY_WORDS):
        pytest.skip("the method acts by words, and the model takes none")
    source, target = (SOURCE[0], TARGET[0]) if takes_text else ("", "")
    before = source if method.under_source or name in PROMPTED else target
    plain = plain_on(layout, kind, before)
    changed = latents(inverted_on(layout, kind), target, [(name, options_on(layout, name))])
    assert (changed - plain).abs().max() > LEAST * plain.abs().max()
