"""Guidance towards several objects in one image: all present, at different positions, with their own attributes.

The predicted noise is guided by the weighted sum of three energies: the presence of the objects (as in
Attend-and-Excite, but averaged over all objects, with the softmax over the tokens of the text only and a narrower
filter), the overlap of the maps of different objects, and 1 - the overlap of the map of an attribute with that of its
object.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sfumato.editing.job import Job
from sfumato.editing.registry import method
from sfumato.options.inversions import EVERY
from sfumato.options.named_objects import ObjectsParams, presence, words_of
from sfumato.options.option import option
from sfumato.options.params import check_weights

if TYPE_CHECKING:
    from sfumato.core.shift import Shift
    from sfumato.shifts.energy.term import Term


@dataclass(frozen=True)
class SeveralObjectsParams(ObjectsParams):
    """Weights of the energies."""

    energy_scale: float = option(0.1, "RMS of the change of the predicted noise", stage="edit", low=0, high=1e6)
    presence_weight: float = option(
        1.0, "weight of the energy that makes all objects present", stage="edit", low=0, high=1e6
    )
    apart_weight: float = option(1.0, "weight of the energy that separates the objects", stage="edit", low=0, high=1e6)
    bound_weight: float = option(
        1.0, "weight of the energy that aligns attributes with their objects", stage="edit", low=0, high=1e6
    )

    def check(self) -> None:
        """Check ranges, the list of objects, and that an energy of these objects has a weight. Raises BadInput."""
        super().check()
        named, weights = self.named(), ["presence_weight"]
        if len(named) > 1:
            weights.append("apart_weight")
        if any(len(words) > 1 for words in named):
            weights.append("bound_weight")
        check_weights(self, "objects", weights)


@method(
    "objects",
    summary="several objects: all present, without overlap, each with its own attributes",
    params=SeveralObjectsParams,
    inversion="edit-friendly",
    accepts=EVERY,
    section="objects",
    handles=("condition", "noise"),
    generates=True,
)
def shifts(job: Job, params: SeveralObjectsParams) -> list[Shift]:
    """Guidance of the predicted noise; no shifts if no objects are given."""
    from sfumato.shifts.energy.guidance import NoiseGuidance, window
    from sfumato.shifts.energy.pairs import AttributeBinding, ObjectOverlap

    named = params.named()
    if not named:
        return []
    objects = words_of(job, named)
    terms: list[tuple[Term, float]] = [(presence(job, named, published=False), params.presence_weight)]
    if len(objects) > 1:
        terms.append((ObjectOverlap(tuple(noun for *_, noun in objects)), params.apart_weight))
    for *attributes, noun in objects:
        terms += [(AttributeBinding(attribute, noun), params.bound_weight) for attribute in attributes]
    chosen = tuple((term, weight) for term, weight in terms if weight)
    return [NoiseGuidance(chosen, params.energy_scale, window(0, params.end), "unit", "objects")]
