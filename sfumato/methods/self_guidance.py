"""Self-Guidance: move, resize, reshape or restyle objects by energies of attention maps and features.

Epstein, Jabri, Poole, Efros, Holynski: "Diffusion Self-Guidance for Controllable Image Generation", NeurIPS 2023, arXiv
2306.00986. The energies (section 3) are computed from centroid, size, shape and appearance of the attention maps of
words; all energies of a step share one backward pass. For real images, the reference values are computed from the
latents of the inversion at the same step; for generated images, from the trajectory of the same seed without guidance
by energies, as in the authors' notebook. All other words that occur in both prompts, except function words, have
energies that preserve their shape and appearance. Appearances, shapes and complete objects can also be taken from
reference images, which are noised to the timestep of each step and evaluated together in one call. There are two
schedules: that of the paper and the window of the authors' notebook. Differences are absolute values, as in the paper,
smoothed at 0. Public reimplementations that use signed means have no gradient for changes that cancel in the mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from sfumato.editing.job import Job
from sfumato.editing.registry import method
from sfumato.options.inversions import EVERY
from sfumato.options.objects import weights_at, word_of
from sfumato.options.other_images import OtherImages, ReferenceImage, ReferenceObject
from sfumato.options.self_guidance import SelfGuidanceParams
from sfumato.options.shared_words import free, shared

if TYPE_CHECKING:
    from sfumato.core.shift import Shift
    from sfumato.shifts.energy.term import Term
    from sfumato.shifts.energy.word import Word


@method(
    "self-guidance",
    summary="energies of attention maps (NeurIPS 2023): objects moved, resized, reshaped, restyled",
    params=SelfGuidanceParams,
    inversion="ddim",
    accepts=EVERY,
    section="self-guidance",
    handles=("noise",),
    generates=True,
)
def shifts(job: Job, params: SelfGuidanceParams) -> list[Shift]:
    """Guidance of the noise by the energies of the named objects and of all other words."""
    from sfumato.images import to_tensor
    from sfumato.shifts.energy.guidance import Gradient, NoiseGuidance

    if not params.named() and not params.images():
        return []
    images = OtherImages(job, {each: to_tensor(params.loaded_images[each.path]) for each in params.images()})
    terms = [*layout_terms(job, params, images), *appearance_terms(job, params, images)]
    chosen = tuple((term, weight) for term, weight in terms if weight)
    gradient = cast(Gradient, params.gradient)
    return [NoiseGuidance(chosen, params.energy_scale, params.guided(), gradient, "self-guidance")]


def layout_terms(job: Job, params: SelfGuidanceParams, images: OtherImages) -> list[tuple[Term, float]]:
    """Return the terms of position, size and shape of changed objects, and of the shape of all other words."""
    from sfumato.shifts.energy.box import Box
    from sfumato.shifts.energy.centroid import Centroid
    from sfumato.shifts.energy.shape import Shape
    from sfumato.shifts.energy.size import Size
    from sfumato.shifts.energy.warp import Warp

    def complete(word: Word, warp: Warp, place: Word | None = None) -> list[tuple[Term, float]]:
        return [
            (Centroid(word, warp.right, warp.down, place=place), params.centroid_weight),
            (Size(word, warp.area), params.size_weight),
            (Shape(word, warp, place=place), params.shape_weight),
        ]

    changes, swaps, taken = params.changes(), params.swaps(), params.objects_from_images()
    found: list[tuple[Term, float]] = []
    for name in dict.fromkeys([*changes, *swaps]):
        place = word_of(job, swaps[name]) if name in swaps else None
        found += complete(word_of(job, name), changes.get(name, Warp()), place)
    for name, there in taken.items():
        found += complete(images.word(name, there), Warp())
    for kind, name, numbers in params.targets():
        word = replace(word_of(job, name), source=None)
        if kind == "place":
            found.append((Centroid(word, at=(numbers[0], numbers[1])), params.centroid_weight))
        elif kind == "cover":
            found.append((Size(word, share=numbers[0]), params.size_weight))
        else:
            left, top, right, bottom = numbers
            found.append((Centroid(word, at=((left + right) / 2, (top + bottom) / 2)), params.centroid_weight))
            found.append((Box(word, edges=(left, top, right, bottom)), params.shape_weight))
    placed = {*changes, *swaps, *taken, *(name for _, name, _ in params.targets())}
    if job.has_source:
        kept = [word_of(job, name) for name in params.restyled() if name not in placed]
        found += [(Shape(word), params.shape_weight) for word in kept]
    unnamed = others(job, params.named(), images, params.layout_image)
    return found + [(Shape(word), params.shape_weight) for word in unnamed.values()]


def appearance_terms(job: Job, params: SelfGuidanceParams, images: OtherImages) -> list[tuple[Term, float]]:
    """Return the terms of appearance: that of reference images if options name them, otherwise of the source."""
    from sfumato.shifts.energy.appearance import Appearance

    module = f"up_blocks.{len(job.network.unet.up_blocks) - 1}"
    taken: Mapping[str, ReferenceObject] = params.objects_from_images() | params.restyled()
    shown = params.appearance_image
    words: list[Word] = []
    for name in params.named():
        if name in taken:
            words.append(images.word(name, taken[name]))
        elif shown is not None and images.prompt(shown).has(name):
            words.append(images.word(name, ReferenceObject(name, shown)))
        elif job.has_source:
            words.append(word_of(job, name))
    words += others(job, params.named(), images, shown).values()
    return [(Appearance(word, module), params.appearance_weight) for word in words]


def others(job: Job, named: Sequence[str], images: OtherImages, shown: ReferenceImage | None = None) -> dict[str, Word]:
    """Return the words that the target prompt shares with the source prompt, or with that of a reference image.

    Only the token positions outside the named phrases are used. A word has the weight 0 in images whose prompts contain
    no such positions. Function words are excluded, as their attention maps do not correspond to objects.

    Args:
        job: the input of the method.
        named: phrases that are named in options, which are excluded.
        images: the reference images.
        shown: one of them; None for the source images, if there are any.

    Returns:
        The words by name.
    """
    if shown is None and not job.has_source:
        return {}
    targets = job.condition.prompts
    sources = job.source.prompts if shown is None else [images.prompt(shown)] * len(targets)
    kept = [shared(*prompts, named) for prompts in zip(sources, targets, strict=True)]
    found = {}
    for name in dict.fromkeys(name for names in kept for name in names):
        word = word_of(job, name) if shown is None else images.word(name, ReferenceObject(name, shown))
        there = job.source.prompts if word.images is None else word.images.condition.prompts
        assert word.source is not None
        tokens = word.target.shape[1], word.source.shape[1]
        rows = [free(each, name, named) if name in names else () for each, names in zip(targets, kept, strict=True)]
        source = weights_at([free(each, name, named) for each in there], tokens[1])
        found[name] = replace(word, target=weights_at(rows, tokens[0]), source=source)
    return found
