"""The run of a checked generation."""

from collections.abc import Generator
from dataclasses import replace

from sfumato.api.extra import described_extra
from sfumato.api.generation_plan import GenerationPlan
from sfumato.api.group import decoded
from sfumato.api.loaded import Loaded
from sfumato.api.report import files_used, made_with, parameters, recipe_parameters, similarity
from sfumato.api.result import Part, Result
from sfumato.api.run import Progress, following
from sfumato.editing.generate import generate, recorded
from sfumato.images import to_uint8


def generating(model: Loaded, plan: GenerationPlan, parts: list[Part]) -> Generator[Progress, None, Result]:
    """Generate images batch by batch, yielding after every step. All arguments have been checked.

    If a method compares with a reference (`Params.needs_reference`), a run of every batch without methods precedes.

    Args:
        model: the model.
        plan: the checked generation.
        parts: the images of every batch are appended when the batch is finished.

    Returns:
        The images with their recipes and the report.
    """
    network, params, composition = model.network, plan.params, plan.composition
    shape, prompts = plan.shape, plan.prompts
    size = shape[1] * network.factor, shape[2] * network.factor
    encoder, features = model.dual_encoder, model.text_features(prompts)
    described = composition.described(recipe_parameters)
    files = files_used(*(params for _, params in composition.methods))
    count = len(plan.batches)
    for n, each in enumerate(plan.batches):
        job = each.job
        if composition.needs_reference:
            plain = replace(job.guidance, network=network)
            run = recorded(generate(plain, shape, job.condition, params, seeds=job.seeds, device=network.device))
            found = yield from following(run, "reference", n, count, each.outputs, network, size[::-1])
            each.reference.update(found)
        work = generate(
            job.guidance, shape, job.condition, params,
            seeds=job.seeds, device=network.device, shifts=each.shifts, path=job.path,
        )  # fmt: skip
        last = yield from following(work, "generate", n, count, each.outputs, network, size[::-1], job.steps)
        images = [to_uint8(image) for image in composition.finish(decoded(network, last, size[::-1]), None)]
        recipes = [
            {
                "operation": "generate",
                **made_with(network),
                "prompt": prompts[row],
                "negative_prompt": plan.negative_prompt,
                "seed": plan.seeds[row],
                "size": list(size[::-1]),
                **parameters(params),
                **described_extra(plan.extra[row]),
                **({"methods": described} if described else {}),
                **files,
            }
            for row in each.outputs
        ]
        parts.append(Part(each.outputs, Result(images, [], recipes, {})))
    pixels = [each for part in parts for each in part.result.pixels]
    report = {
        "parameters": {**parameters(params), "prompts": prompts, "seeds": plan.seeds, "size": list(size[::-1])},
        "metrics": {} if encoder is None or features is None else {"similarity": similarity(encoder, pixels, features)},
        "notes": model.too_long(prompts) + composition.notes([("", prompt) for prompt in prompts]),
    }
    return Result(pixels, [], [each for part in parts for each in part.result.recipes], report)
