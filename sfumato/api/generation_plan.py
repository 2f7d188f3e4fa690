"""A checked generation: its methods, and its batches with the shifts of each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from sfumato.api.arguments import (
    as_list,
    check_batch,
    check_negative,
    check_prompts,
    check_seeds,
    check_shifts,
    height_and_width,
    spread,
)
from sfumato.api.composition import Composition
from sfumato.api.extra import extra_condition, read_extra
from sfumato.api.group import at_once
from sfumato.api.loaded import Loaded
from sfumato.api.named import Named, as_named, check_class, name_of, options_in
from sfumato.api.parameters import check_and_read, check_same, resolve, resolve_of
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
from sfumato.options.params import Params, check_names, options_of


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
        wanted: name of a method, or names of methods with or without options of the edit or parameters.
        shifts: shifts of the caller.

    Raises:
        BadInput: a method or option is unknown, a method cannot generate images, or a value is out of range; or
            complete parameters are of another class or differ from the run.
    """
    check_shifts(shifts)
    found = [_with_params(network, params, each) for each in as_named(wanted)]
    check_once([method for method, _ in found])
    return Composition(tuple(found), tuple(shifts), params)


@dataclass(frozen=True, eq=False)
class GenerationPlan:
    """A checked generation of one or more images.

    Attributes:
        params: parameters of the run.
        prompts: one per image.
        seeds: one per image.
        shape: shape (c, h, w) of one latent.
        negative_prompt: the negative prompt of classifier-free guidance.
        extra: maps, labels and tokens, one row per image; also used for the prediction under the negative prompt.
        composition: methods and shifts.
        batches: the images in batches.
    """

    params: GenerateParams
    prompts: list[str]
    seeds: list[int]
    shape: tuple[int, int, int]
    negative_prompt: str
    extra: Condition
    composition: Composition
    batches: list[GenerationBatch]


def plan_images(
    model: Loaded,
    prompts: Any,
    *,
    seed: Any,
    size: int | tuple[int, int] | None,
    negative_prompt: str,
    maps: Tensor | None,
    labels: Any,
    tokens: Tensor | None,
    methods: str | Sequence[Named],
    shifts: Sequence[Shift],
    batch: int | None,
    options: Mapping[str, Any],
) -> GenerationPlan:
    """Check and plan a generation; the arguments are those of `Model.plan_generation`.

    Raises:
        BadInput: an argument is invalid; the message gives the allowed values.
    """
    network = model.network
    check_batch(batch)
    params = resolve(network, GenerateParams, options, stages=("generate",), section="generate", what="generate")
    seeds = check_seeds(as_list(seed))
    texts = check_prompts(network, as_list(prompts), "prompt", empty=False)
    parts = read_extra(network, maps, labels, tokens)
    count = max(len(seeds), len(texts), *(len(part) for part in parts.values()))
    texts, seeds = spread(texts, count, "prompt"), spread(seeds, count, "seed")
    if size is None and maps is not None:
        size = maps.shape[3] * network.factor, maps.shape[2] * network.factor
    shape = network.latent_shape(*height_and_width(network, size))
    extra = extra_condition(network, parts, count, [shape[1:]])
    composition = compose_generation(network, params, methods, shifts)
    check_negative(network, composition.uses_negative, negative_prompt, [params.guidance_scale])
    composition.check_run(network, [shape[1:]], texts, texts)
    plan = GenerationPlan(params, texts, seeds, shape, negative_prompt, extra, composition, [])
    return replace(plan, batches=_batches(model, plan, batch))


def _batches(model: Loaded, plan: GenerationPlan, batch: int | None) -> list[GenerationBatch]:
    """Split a generation into batches of at most `batch` rows; encode the prompts and create the shifts of each.

    Raises:
        BadInput: as `Composition.of` and `Composition.path`.
    """
    params, shape, composition = plan.params, plan.shape, plan.composition
    size = shape[1] * model.network.factor, shape[2] * model.network.factor
    largest, path = at_once(shape, batch), composition.path(params.steps)
    kind = REFERENCE if composition.needs_reference else FROM_NOISE
    found = []
    for first in range(0, len(plan.prompts), largest):
        texts, own = plan.prompts[first : first + largest], plan.seeds[first : first + largest]
        some = plan.extra[first : first + largest]
        guided = model.guided([params.guidance_scale] * len(texts), size, plan.negative_prompt, some)
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
    name, own = name_of(named), options_in(named)
    method, what = METHODS.find(name), f"generation by {name}"
    if not method.generates:
        able = ", ".join(each.name for each in METHODS.values() if each.generates)
        raise BadInput(f"{name} edits images and cannot be used to generate them; these methods can: {able}.")
    known = options_of(method.params)
    shared = {"steps": run.steps, "guidance_scale": run.guidance_scale, "skip": 0}
    shared = {option: value for option, value in shared.items() if option in known}
    if isinstance(own, Params):
        check_class(own, method)
        check_same(own, shared, name)
        check_and_read(network, own)
        return method, own
    check_names(own, method.params, ("edit",), what)
    return method, resolve_of(network, method, {**shared, **own}, what)
