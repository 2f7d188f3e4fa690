"""The plan of a generation: its methods, and its batches with the shifts of each."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sfumato.api.arguments import check_shifts, resolve
from sfumato.api.composition import Composition, Named, as_named
from sfumato.api.group import at_once
from sfumato.api.loaded import Loaded
from sfumato.core.condition import Condition
from sfumato.core.guidance import Guided
from sfumato.core.shift import Shift
from sfumato.editing.generate import GenerateParams
from sfumato.editing.job import FROM_NOISE, REFERENCE, Job
from sfumato.editing.registry import METHODS, Method, check_once
from sfumato.errors import BadInput
from sfumato.inversion import Inversion
from sfumato.models.diffusion_model import DiffusionModel
from sfumato.models.with_source import WithSource
from sfumato.options.params import Params, Stage, check_names, options_of


@dataclass(frozen=True, eq=False)
class GenerationBatch:
    """Images that are generated in one batch.

    Attributes:
        outputs: index of the result, per image.
        job: input of the methods.
        shifts: shifts of the methods and of the caller.
        reference: latents of the run without methods by timestep, which the job's network reads as its source; filled
            by the run, for methods that compare with a reference (`Params.needs_reference`).
    """

    outputs: list[int]
    job: Job
    shifts: list[Shift]
    reference: dict[int, Tensor]


def compose_generation(
    network: DiffusionModel, params: GenerateParams, wanted: str | Sequence[Named], shifts: Sequence[Shift]
) -> Composition:
    """Compose the generation of images from methods and shifts.

    Args:
        network: the model.
        params: parameters of the run, used for all methods.
        wanted: name of a method, or names of methods with or without options of the edit.
        shifts: shifts of the caller.

    Raises:
        BadInput: a method or option is unknown, a method cannot generate images, or a value is out of range.
    """
    check_shifts(shifts)
    found = [_with_params(network, params, each) for each in as_named(wanted)]
    check_once([method for method, _ in found])
    return Composition(tuple(found), tuple(shifts), params)


def generation_batches(
    model: Loaded,
    params: GenerateParams,
    prompts: Sequence[str],
    seeds: Sequence[int],
    shape: tuple[int, int, int],
    negative_prompt: str,
    batch: int | None,
    extra: Condition,
    composition: Composition,
) -> list[GenerationBatch]:
    """Split a generation into batches, and encode the prompts and create the shifts of each.

    Args:
        model: the model.
        params: parameters of the run.
        prompts: one per image.
        seeds: one per image.
        shape: shape (c, h, w) of one latent.
        negative_prompt: the negative prompt of classifier-free guidance.
        batch: maximum number of rows per forward pass; None for the default.
        extra: maps, labels and tokens, one row per image; also used for the prediction under the negative prompt.
        composition: methods and shifts.

    Raises:
        BadInput: as `Composition.of` and `Composition.path`.
    """
    size = shape[1] * model.network.factor, shape[2] * model.network.factor
    largest, path = at_once(shape, batch), composition.path(params.steps)
    kind = REFERENCE if composition.needs_reference else FROM_NOISE
    found = []
    for first in range(0, len(prompts), largest):
        texts, own = list(prompts[first : first + largest]), list(seeds[first : first + largest])
        some = extra[first : first + largest]
        guided = model.guided([params.guidance_scale] * len(texts), size, negative_prompt, some)
        condition = model.condition(texts, size, some)
        reference: dict[int, Tensor] = {}
        guided = replace(guided, network=WithSource(model.network, reference, condition))
        job = job_of(guided, shape, condition, params, own, path, kind)
        outputs = list(range(first, first + len(texts)))
        found.append(GenerationBatch(outputs, job, composition.of(job), reference))
    return found


def job_of(
    guided: Guided,
    shape: tuple[int, int, int],
    condition: Condition,
    params: GenerateParams,
    seeds: Sequence[int],
    path: tuple[int, ...] = (),
    kind: str = FROM_NOISE,
) -> Job:
    """Return the input of methods for one generated batch, with equal source and target prompts.

    Args:
        guided: the network with its guidance, one row per image.
        shape: shape (c, h, w) of one latent.
        condition: condition of the prompts, one row per image.
        params: parameters of the run.
        seeds: one per image.
        path: noise levels in the order in which the run visits them; () for each one once.
        kind: `FROM_NOISE` for images without a source, or `REFERENCE`.
    """
    timesteps = tuple(guided.schedule.timesteps(params.steps))
    x = torch.empty(len(timesteps) + 1, len(seeds), *shape, device="meta")
    outline = Inversion(kind, x, None, timesteps, params.eta, guided.guidance_scale, tuple(seeds))
    return Job(guided, outline, condition, condition, condition, path=path)


def _with_params(network: DiffusionModel, run: GenerateParams, named: Named) -> tuple[Method, Params]:
    name, own = (named, {}) if isinstance(named, str) else named
    method, what = METHODS.find(name), f"generation by {name}"
    if not method.generates:
        able = ", ".join(each.name for each in METHODS.values() if each.generates)
        raise BadInput(f"{name} edits images and cannot be used to generate them; these methods can: {able}.")
    check_names(own, method.params, ("edit",), what)
    known = options_of(method.params)
    shared = {"steps": run.steps, "guidance_scale": run.guidance_scale, "skip": 0}
    given = {option: value for option, value in shared.items() if option in known} | dict(own)
    stages: tuple[Stage, ...] = ("invert", "edit")
    return method, resolve(network, method.params, given, stages=stages, section=method.section, what=what)
