"""Global directions of a model: sampled latents in, named directions out."""

from collections.abc import Iterator, Sequence
from itertools import cycle, islice
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sfumato.api.arguments import check_prompts, check_seeds, height_and_width, resolve
from sfumato.api.group import at_once, guided
from sfumato.errors import BadInput
from sfumato.geometry import BottleneckMap, Directions, Pool, find_directions
from sfumato.geometry.basis import check_n
from sfumato.geometry.directions import Kind, check_names
from sfumato.geometry.jacobian import CHUNK
from sfumato.methods.generate import GenerateParams, generate
from sfumato.models.diffusion_model import DiffusionModel

if TYPE_CHECKING:
    from sfumato.api.model import Model


def find(
    model: "Model",
    prompts: Sequence[str] = ("",),
    *,
    n: int = 10,
    samples: int = 50,
    time: float = 1.0,
    steps: int | None = None,
    kind: Kind = "pullback",
    names: Sequence[str] = (),
    whole: bool = False,
    size: int | tuple[int, int] | None = None,
    seed: int = 0,
    chunk: int = CHUNK,
) -> Directions:
    """Directions that latents of many generated pictures share.

    Args:
        model: a loaded model.
        prompts: the samples take them in turn; empty for a model without text.
        n: how many directions.
        samples: how many latents.
        time: share of the run that is left where the latents are taken; 1 is t = T, where directions agree most.
        steps: of the run; the model's own default.
        kind: "pullback" or "pca".
        names: of the directions; their numbers by default.
        whole: keep the positions of the bottleneck instead of their sum.
        size: (width, height) of the pictures in pixels; directions belong to one size.
        seed: of the first sample; the others count upwards.
        chunk: most rows in one pass of the Jacobian.

    Raises:
        BadInput: anything that cannot be used, before any evaluation.
    """
    network = model.network
    given = {} if steps is None else {"steps": steps}
    params = resolve(network, GenerateParams, given, stages=("generate",), section="generate", what="directions")
    if isinstance(samples, bool) or not isinstance(samples, int) or samples < 2:
        raise BadInput(f"There must be at least 2 samples, not {samples!r}.")
    if isinstance(time, bool) or not isinstance(time, int | float) or not 0 < time <= 1:
        raise BadInput(f"time must be above 0 and at most 1, not {time!r}.")
    check_seeds([seed])
    texts = list(islice(cycle(check_prompts(network, list(prompts), "prompt", empty=True)), samples))
    latent = network.latent_shape(*height_and_width(network, size))
    timesteps = network.schedule.timesteps(params.steps)
    step = min(round((1 - time) * params.steps), params.steps - 1)
    pool: Pool = None if whole else "sum"
    check_n(BottleneckMap(network, timesteps[step], None, pool, chunk), torch.empty(1, *latent, device="meta"), n)
    check_names(names)
    parts = list(sample_latents(network, texts, latent, params, step, seed))
    pixels = latent[1] * network.factor, latent[2] * network.factor
    f = BottleneckMap(network, timesteps[step], network.condition(texts, size=pixels), pool, chunk)
    x, run = torch.cat(parts), {"steps": params.steps, "step": step}
    return find_directions(f, x, n, **run, kind=kind, names=names, prompts=prompts)


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
        step: index, from 0 (x_T, which needs no evaluation if it is the first).
        seed: of the first sample.
    """
    size = latent[1] * network.factor, latent[2] * network.factor
    largest = at_once(latent, None)
    for first in range(0, len(prompts), largest):
        texts = list(prompts[first : first + largest])
        seeds = [seed + first + row for row in range(len(texts))]
        guidance = guided(network, [params.strength] * len(texts), size)
        condition = network.condition(texts, size=size)
        states = generate(guidance, latent, condition, params, seeds=seeds, device=network.device)
        yield next(islice(states, step, None)).x_t
