"""Search for global directions of a model from sampled latents, and text directions between two words."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import cycle, islice

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.api.arguments import as_list, check_prompts, check_seeds, height_and_width
from sfumato.api.group import at_once, guided
from sfumato.api.loaded import Loaded
from sfumato.api.parameters import resolve
from sfumato.editing.generate import GenerateParams, first_latent, generate
from sfumato.errors import BadInput
from sfumato.geometry import BottleneckMap, Directions, find_directions
from sfumato.geometry.directions import Kind
from sfumato.geometry.jacobian import CHUNK
from sfumato.geometry.search import check_search
from sfumato.models.checks import check_prompts_suffice
from sfumato.models.diffusion_model import DiffusionModel
from sfumato.shifts.banks import check_bank, check_different, templated
from sfumato.shifts.text_direction import TextDirection, text_direction


def search_directions(
    model: Loaded,
    prompts: str | Sequence[str] = ("",),
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
    """Search for global directions: averages of the local directions of many samples (arXiv 2302.12469, section 3.3).

    Args:
        model: a loaded model.
        prompts: prompts of the samples, at most `samples`, repeated cyclically. Use the default for a model without
            text input.
        n: number of directions.
        samples: number of latents, at least 2.
        time: fraction of the run that remains at the timestep of the latents, above 0 and at most 1; 1 is t = T, where
            the directions of different samples are most similar.
        steps: number of steps of the run; by default that of the model.
        kind: "pullback" (local directions of the samples, matched and averaged) or "pca" (principal components of
            the bottleneck).
        names: one name per direction; "1", "2", ... by default.
        keep_positions: use the bottleneck at every position instead of its sum over the positions.
        size: (width, height) of the images in pixels, or the side of a square; the directions apply to images of
            this size only.
        seed: seed of the first sample; sample i has seed + i.
        guidance_scale: guidance scale of the run that samples the latents, without effect at time = 1; by default
            that of the model.
        chunk: maximum number of rows per pass of the Jacobian; it limits the memory.
        callback: called with the stage, "latent" or "basis", the number of samples done and the number of samples.

    Returns:
        `n` named unit vectors of the bottleneck.

    Raises:
        BadInput: an argument is out of range, or there are more prompts than samples; raised before the network is
            evaluated.
    """
    network = model.network
    given = {name: value for name, value in (("steps", steps), ("guidance_scale", guidance_scale)) if value is not None}
    params = resolve(network, GenerateParams, given, stages=("generate",), section="generate", what="directions")
    _check_sampling(samples, time, seed)
    texts = _texts(network, prompts, samples)
    latent = network.latent_shape(*height_and_width(network, size))
    step = min(round((1 - time) * params.steps), params.steps - 1)
    t = network.schedule.timesteps(params.steps)[step]
    f = BottleneckMap(network, t, None, None if keep_positions else "sum", chunk)
    check_search(f, torch.empty(samples, *latent, device="meta"), n, kind, names)

    def report(stage: str, done: int) -> None:
        if callback is not None:
            callback(stage, done, samples)

    x = _sampled(network, texts, latent, params, step, seed, partial(report, "latent"))
    pixels = latent[1] * network.factor, latent[2] * network.factor
    return find_directions(
        replace(f, condition=network.condition(texts, size=pixels)),
        x,
        n,
        steps=params.steps,
        step=step,
        kind=kind,
        names=names,
        prompts=as_list(prompts),
        callback=partial(report, "basis"),
    )


def _check_sampling(samples: int, time: float, seed: int) -> None:
    """Check the arguments of `search_directions` that choose the samples. Raises BadInput."""
    if isinstance(samples, bool) or not isinstance(samples, int) or samples < 2:
        raise BadInput(f"samples must be an integer of at least 2, not {samples!r}.")
    if isinstance(time, bool) or not isinstance(time, int | float) or not 0 < time <= 1:
        raise BadInput(f"time must be above 0 and at most 1, not {time!r}.")
    check_seeds([seed])


def _texts(network: DiffusionModel, prompts: str | Sequence[str], samples: int) -> list[str]:
    """One prompt per sample: `prompts`, repeated cyclically.

    Raises:
        BadInput: a prompt cannot be used, there are more prompts than samples, or the network needs other inputs.
    """
    check_prompts_suffice(network, "search_directions")
    each = check_prompts(network, as_list(prompts), "prompt", empty=True)
    if len(each) > samples:
        raise BadInput(
            f"{len(each)} prompts need at least as many samples, not {samples}: give fewer prompts, or more samples."
        )
    return list(islice(cycle(each), samples))


def _sampled(
    network: DiffusionModel,
    texts: Sequence[str],
    latent: tuple[int, int, int],
    params: GenerateParams,
    step: int,
    seed: int,
    report: Callable[[int], None],
) -> Float[Tensor, "samples c h w"]:
    """All latents of `sample_latents`; `report` is called with the number of finished samples."""
    parts: list[Tensor] = []
    for part in sample_latents(network, texts, latent, params, step, seed):
        parts.append(part)
        report(sum(map(len, parts)))
    return torch.cat(parts)


def compute_text_direction(model: Loaded, source: str | Sequence[str], target: str | Sequence[str]) -> TextDirection:
    """Compute the text direction from one word or bank of sentences to another (arXiv 2302.03027, section 3.1).

    The method pix2pix-zero uses it as `direction_file` after `save(path)`.

    Args:
        model: a loaded model.
        source: a word, which is inserted into the built-in sentences, or a list of at least two sentences.
        target: the replacement, in the same form.

    Raises:
        BadInput: the model has no text input, a bank has fewer than two sentences, a sentence cannot be tokenised, or
            the source equals the target.
    """
    network = model.network
    if not network.takes_text:
        raise BadInput(f"{network.name or 'This model'} has no text input, so it has no directions of text.")
    banks = _bank(network, source, "source"), _bank(network, target, "target")
    check_different(*banks)
    return text_direction(network, *banks)


def _bank(network: DiffusionModel, given: str | Sequence[str], side: str) -> list[str]:
    """The sentences of a word or bank. Raises BadInput as `check_bank`."""
    if isinstance(given, str):
        bank, name = templated(given), f'The built-in bank of "{given[:40]}"'
    else:
        if not isinstance(given, list | tuple) or not all(isinstance(each, str) for each in given):
            raise BadInput(f"The {side} of a text direction must be a word or a list of sentences, not {given!r:.60}.")
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
    """Sample x_t of generated images at the start of step `step`, yielding batches [b,c,h,w].

    Args:
        network: the model.
        prompts: one per sample.
        latent: shape (c, h, w) of one latent.
        params: parameters of the run.
        step: index of the step, from 0; for 0 the latents are x_T and the network is not evaluated.
        seed: seed of the first sample; sample i has seed + i.
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
