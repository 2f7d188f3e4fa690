"""Tests of the contract that every method must satisfy: docs/design.md, section 3."""

import hashlib
import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import Field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from sfumato.api import Inverted, Model, load
from sfumato.editing.registry import METHODS, Method
from sfumato.errors import BadInput
from sfumato.options.option import kind_of
from sfumato.options.params import SHARED, options_of
from sfumato.testing.tiny import tiny_image, tiny_sd

STEPS = 6
SOURCE, TARGET = "red cat", "green dog"
IMAGES = [tiny_image(32, 32), tiny_image(32, 32, seed=1), tiny_image(37, 21, seed=2)]
GREY_LEVELS = 2
"""Tolerated difference between an edit alone and in a batch, because rounding depends on the batch size."""


def check_method(
    name: str,
    *,
    options: Mapping[str, Any] | None = None,
    reconstructs: bool = True,
    folder: str | os.PathLike[str] | None = None,
) -> None:
    """Check that a registered method satisfies the contract of methods:

    - All options have a help text and a range; values out of range raise BadInput before any network evaluation.
    - The edited image has the size of the source image.
    - Repeated edits are equal; an edit in a batch differs from the single edit by at most `GREY_LEVELS`.
    - Pixels outside a mask are unchanged.
    - Weights, modes and hooks of all networks and the global random generators are unchanged after an edit and after a
      cancelled edit.
    - The source prompt at the source guidance scale reconstructs the image up to one grey level (`reconstructs`).

    The options skip and guidance_scale are set only for methods that have them.

    Args:
        name: name of the method.
        options: options for all edits, by name, for example a smaller number of repetitions.
        reconstructs: False for methods that change the image under any prompt, or that edit approximate inversions
            only.
        folder: parent of the temporary folder in which the tiny model is saved; by default the system's.

    Raises:
        AssertionError: the method violates the contract; the message describes the first violation.
        BadInput: there is no such method.
    """
    method = METHODS.find(name)
    _check_options(method)
    with tempfile.TemporaryDirectory(dir=folder) as place:
        model = load(str(tiny_sd(Path(place) / "tiny-sd")), "cpu")
    edits = _Edits(model, method, dict(options or {}))
    for check in (_size, _repeated, _batch, _mask, _unchanged, _generators, _refusals):
        check(edits)
    if reconstructs:
        _reconstruction(edits)


class _Edits:
    """Inversions and edits of the small images by one method."""

    def __init__(self, model: Model, method: Method, options: dict[str, Any]) -> None:
        self.model, self.method = model, method
        inverting = options_of(method.params, "invert")
        self.inversion = {"steps": STEPS} | {n: v for n, v in options.items() if n in inverting}
        if "exact" in inverting:
            self.inversion.setdefault("exact", True)
        self.own = {n: v for n, v in options.items() if n not in inverting}
        self.shared = set(SHARED) & set(options_of(method.params, "edit"))

    def invert(self, images: Any, seed: Any = 0) -> Inverted:
        return self.model.invert(images, SOURCE, method=self.method.name, seed=seed, **self.inversion, **self.own)

    def edit(self, inverted: Inverted, prompt: str = TARGET, **options: Any) -> list[NDArray[np.int64]]:
        edited = inverted.edit(prompt, **self.known(options))
        return [pixels.astype(np.int64) for pixels in edited.pixels]

    def cancel(self, inverted: Inverted) -> None:
        """Begin an edit and close it after its first step."""
        run = inverted.edit_steps(TARGET, **self.known({"skip": 1}))
        next(iter(run))
        run.close()

    def known(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The options without the shared options that the method does not have."""
        return {name: value for name, value in options.items() if name in self.shared or name not in SHARED}


def _check_options(method: Method) -> None:
    assert method.summary.strip(), f"{method.name} has no summary"
    for name, each in options_of(method.params).items():
        assert each.metadata["help"], f"the option {name} has no help text"
        assert each.metadata["stage"] in ("invert", "edit"), f"the stage of {name} is neither invert nor edit"
        kind_of(each)
    method.params().check()


def _size(edits: _Edits) -> None:
    found = edits.edit(edits.invert(IMAGES), skip=0)
    sizes = [(pixels.shape[1], pixels.shape[0]) for pixels in found]
    assert sizes == [image.size for image in IMAGES], f"the edits have the sizes {sizes}"


def _repeated(edits: _Edits) -> None:
    inverted = edits.invert(IMAGES[0], seed=3)
    first, second = (edits.edit(inverted, skip=1)[0] for _ in range(2))
    assert np.array_equal(first, second), "two edits of one inversion differ: do shifts keep values between runs?"
    again = edits.edit(edits.invert(IMAGES[0], seed=3), skip=1)[0]
    assert np.array_equal(first, again), "two runs with one seed differ: is all noise a function of the seed?"


def _batch(edits: _Edits) -> None:
    together = edits.edit(edits.invert(IMAGES, seed=[5, 6, 7]), skip=2, guidance_scale=3.0)[1]
    alone = edits.edit(edits.invert(IMAGES[1], seed=6), skip=2, guidance_scale=3.0)[0]
    most = int(abs(together - alone).max())
    assert most <= GREY_LEVELS, f"an image edited in a batch differs by {most} levels from the same image edited alone"


def _mask(edits: _Edits) -> None:
    mask: NDArray[np.uint8] = np.zeros((21, 37), np.uint8)
    mask[4:15, 9:30] = 255
    found = edits.edit(edits.invert(IMAGES[2]), skip=0, mask=Image.fromarray(mask))[0]
    outside = (found != np.asarray(IMAGES[2])).any(axis=-1) & (mask == 0)
    assert not outside.any(), f"{int(outside.sum())} pixels outside the mask changed"


def _unchanged(edits: _Edits) -> None:
    before, inverted = _state(edits.model), edits.invert(IMAGES[0])
    edits.edit(inverted)
    _compare(before, _state(edits.model), "an edit")
    edits.cancel(inverted)
    _compare(before, _state(edits.model), "a cancelled edit")


def _generators(edits: _Edits) -> None:
    before, inverted = _random_state(), edits.invert(IMAGES[0])
    edits.edit(inverted)
    assert _random_state() == before, "a global random generator was used: take noise from sfumato.core.noise"
    edits.cancel(inverted)
    assert _random_state() == before, "a cancelled edit leaves a global random generator in another state"


def _random_state() -> tuple[bytes, str]:
    """The states of the global generators of torch and numpy."""
    return torch.get_rng_state().numpy().tobytes(), str(np.random.get_state(legacy=False))


def _refusals(edits: _Edits) -> None:
    calls = edits.model.network.count.calls
    for name, each in options_of(edits.method.params).items():
        for value in _unusable(each):
            given = edits.inversion | edits.own | {name: value}
            try:
                edits.model.invert_steps(IMAGES[0], SOURCE, method=edits.method.name, **given)
            except BadInput as error:
                if name not in str(error):
                    raise AssertionError(f"the message about {name} = {value!r} does not name it: {error}") from error
            else:
                raise AssertionError(f"{name} = {value!r} is not refused")
    assert edits.model.network.count.calls == calls, "the network was evaluated before a value was refused"


def _reconstruction(edits: _Edits) -> None:
    for image in IMAGES[::2]:
        inverted = edits.invert(image)
        scale = getattr(inverted.params, "source_guidance_scale", 1.0)
        found = edits.edit(inverted, SOURCE, skip=0, guidance_scale=scale)[0]
        most = int(abs(found - np.asarray(image)).max())
        assert most <= 1, (
            f"the edit under the source prompt differs from the image by {most} levels; give reconstructs=False if the "
            "method changes the image under every prompt"
        )


def _unusable(each: "Field[Any]") -> Iterator[Any]:
    """Invalid values of an option, which must raise BadInput."""
    kind, within = kind_of(each), each.metadata["range"]
    if kind is str:
        yield 1
    elif kind is bool:
        yield "many"
    else:
        yield from ("many", math.nan, math.inf, True)
        yield from () if within.low is None else (within.low - 1,)
        yield from () if within.above is None else (within.above,)
        yield from () if within.high is None else (within.high + 1,)


def _state(model: Model) -> dict[str, tuple[str, list[tuple[bool, int]]]]:
    """By network: hash of the weights; mode and number of hooks of every module."""
    network = model.network
    parts: dict[str, nn.Module] = {"U-Net": network.unet}
    parts |= {"text encoder" + " 2" * (n > 0): each.encoder for n, each in enumerate(network.text_encoders)}
    parts |= {} if network.codec.module is None else {"autoencoder": network.codec.module}
    return {name: _state_of(part) for name, part in parts.items()}


def _state_of(network: nn.Module) -> tuple[str, list[tuple[bool, int]]]:
    found = hashlib.sha256()
    for name, weight in sorted(network.state_dict().items()):
        found.update(name.encode() + weight.detach().cpu().contiguous().numpy().tobytes())
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return found.hexdigest(), [
        (each.training, sum(len(getattr(each, name)) for name in hooks)) for each in network.modules()
    ]


def _compare(before: Mapping[str, Any], after: Mapping[str, Any], when: str) -> None:
    for name, state in before.items():
        assert after[name] == state, f"weights, modes or hooks of the model differ after {when}: those of the {name}"
