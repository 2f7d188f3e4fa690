"""Global directions of a model: sampled latents in, named directions out; or words in, a direction of text out."""

from collections.abc import Callable, Iterator, Sequence
from itertools import cycle, islice

import torch
from torch import Tensor

from sfumato.api.arguments import check_prompts, check_seeds, height_and_width, resolve
from sfumato.api.group import at_once, guided
from sfumato.api.loaded import Loaded
from sfumato.errors import BadInput
from sfumato.geometry import BottleneckMap, Directions, Pool, find_directions
from sfumato.geometry.directions import Kind
from sfumato.geometry.jacobian import CHUNK
from sfumato.geometry.search import check_search
from sfumato.methods.generate import GenerateParams, first_latent, generate
from sfumato.models.diffusion_model import DiffusionModel
from sfumato.shifts.banks import check_bank, templated
from sfumato.shifts.text_direction import TextDirection, text_direction


def find(
    model: Loaded,
    prompts: Sequence[str] = ("",),
    *,
    n: int = 10,
    samples: int = 50,
    time: float = 1.0,
    steps: int | None = None,
    kind: Kind = "pullback",
    names: Sequence[str] = (),
    keep_positions: bool = False,
    size: int | tuple[int, int] | None = None,
    seed: int = 0,
    guidance_scale: float | None = None,
    chunk: int = CHUNK,
    callback: Callable[[str, int, int], None] | None = None,
) -> Directions:
    """Directions that latents of many generated pictures share.

    Args:
        model: a loaded model.
        prompts: the samples take them in turn, at most one for each; empty for a model without text.
        n: how many directions.
        samples: how many latents.
        time: share of the run that is left where the latents are taken; 1 is t = T, where directions agree most.
        steps: of the run; the model's own default.
        kind: "pullback" or "pca".
        names: of the directions; their numbers by default.
        keep_positions: keep the positions of the bottleneck instead of their sum.
        size: (width, height) of the pictures in pixels; directions belong to one size.
        seed: of the first sample; the others count upwards.
        guidance_scale: guidance of the run that draws the latents, which matters below t = T; the model's own default.
        chunk: most rows in one pass of the Jacobian.
        callback: called with what is being done, how many samples it is done for, and of how many.

    Raises:
        BadInput: anything that cannot be used, more prompts than samples among it; before any evaluation.
    """
    network = model.network
    given = {name: value for name, value in (("steps", steps), ("guidance_scale", guidance_scale)) if value is not None}
    params = resolve(network, GenerateParams, given, stages=("generate",), section="generate", what="directions")
    if isinstance(samples, bool) or not isinstance(samples, int) or samples < 2:
        raise BadInput(f"There must be at least 2 samples, not {samples!r}.")
    if isinstance(time, bool) or not isinstance(time, int | float) or not 0 < time <= 1:
        raise BadInput(f"time must be above 0 and at most 1, not {time!r}.")
    check_seeds([seed])
    each = check_prompts(network, list(prompts), "prompt", empty=True)
    if len(each) > samples:
        raise BadInput(
            f"{len(each)} prompts need at least as many samples, not {samples}: give fewer, or more samples."
        )
    texts = list(islice(cycle(each), samples))
    latent = network.latent_shape(*height_and_width(network, size))
    timesteps = network.schedule.timesteps(params.steps)
    step = min(round((1 - time) * params.steps), params.steps - 1)
    pool: Pool = None if keep_positions else "sum"
    shape = torch.empty(samples, *latent, device="meta")
    check_search(BottleneckMap(network, timesteps[step], None, pool, chunk), shape, n, kind, names)

    def report(what: str, done: int) -> None:
        if callback is not None:
            callback(what, done, samples)

    parts: list[Tensor] = []
    for part in sample_latents(network, texts, latent, params, step, seed):
        parts.append(part)
        report("latent", sum(map(len, parts)))
    pixels = latent[1] * network.factor, latent[2] * network.factor
    f = BottleneckMap(network, timesteps[step], network.condition(texts, size=pixels), pool, chunk)
    return find_directions(
        f,
        torch.cat(parts),
        n,
        steps=params.steps,
        step=step,
        kind=kind,
        names=names,
        prompts=prompts,
        callback=lambda done: report("basis", done),
    )


def between(model: Loaded, source: str | Sequence[str], target: str | Sequence[str]) -> TextDirection:
    """The direction of text from one word, or bank of sentences, to another, for pix2pix-zero.

    Save it with `save(path)`, and edit with `direction_file=path`.

    Args:
        model: a loaded model.
        source: what is replaced: a word, of which the built-in sentences are made, or at least two sentences.
        target: what replaces it.

    Raises:
        BadInput: a model without text; fewer than two sentences, or some that the model cannot read.
    """
    network = model.network
    if not network.takes_text:
        raise BadInput(f"{network.name or 'This model'} has no text input, so there are no directions of text.")
    return text_direction(network, _bank(network, source, "source"), _bank(network, target, "target"))


def _bank(network: DiffusionModel, given: str | Sequence[str], side: str) -> list[str]:
    """The sentences. Raises BadInput as `check_bank`."""
    if isinstance(given, str):
        bank, name = templated(given), f'The built-in bank of "{given[:40]}"'
    else:
        bank, name = list(given), f"The {side} bank"
    check_bank(network.text_encoders, bank, name)
    return bank


def sample_latents(
    network: DiffusionModel,
    prompts: Sequence[str],
    latent: tuple[int, int, int],
    params: GenerateParams,
    step: int,
    seed: int = 0,
) -> Iterator[Tensor]:
    """x_t of pictures that are being generated, where step `step` begins, one seed per prompt; in batches.

    Args:
        network: the model.
        prompts: one per sample.
        latent: shape of one latent.
        params: of the run.
        step: index, from 0, which is x_T and needs no evaluation.
        seed: of the first sample.
    """
    size = latent[1] * network.factor, latent[2] * network.factor
    largest = at_once(latent, None)
    for first in range(0, len(prompts), largest):
        texts = list(prompts[first : first + largest])
        seeds = [seed + first + row for row in range(len(texts))]
        guidance = guided(network, [params.guidance_scale] * len(texts), size)
        if step == 0:
            yield first_latent(guidance, latent, seeds, network.device)
            continue
        condition = network.condition(texts, size=size)
        states = generate(guidance, latent, condition, params, seeds=seeds, device=network.device)
        last = next(islice(states, step - 1, None)).x_prev
        assert last is not None
        yield last
