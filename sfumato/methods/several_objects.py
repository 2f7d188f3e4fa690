"""Several objects in one image: every named object is present, apart from the others, and has its own attributes.

The noise is guided by the sum of three energies: presence (as in Attend-and-Excite, averaged over all objects, with the
softmax over the tokens of the text only and a narrower filter), the overlap of the maps of objects, and 1 - the overlap
of the map of an attribute with that of its object.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sfumato.methods.inversions import EVERY
from sfumato.methods.job import Job
from sfumato.methods.named_objects import ObjectsParams, presence, words_of
from sfumato.methods.params import option
from sfumato.methods.registry import method

if TYPE_CHECKING:
    from sfumato.core.shift import Shift
    from sfumato.shifts.energy.term import Term


@dataclass(frozen=True)
class SeveralObjectsParams(ObjectsParams):
    """Weights of the energies."""

    energy_scale: float = option(1.0, "RMS of the move of the noise", stage="edit", low=0, high=1e6)
    presence_weight: float = option(1.0, "weight of the presence of all objects", stage="edit", low=0, high=1e6)
    apart_weight: float = option(1.0, "weight of the overlap of objects", stage="edit", low=0, high=1e6)
    bound_weight: float = option(1.0, "weight of attributes away from their object", stage="edit", low=0, high=1e6)


@method(
    "objects",
    summary="several objects: all present, apart, each with its own attributes",
    params=SeveralObjectsParams,
    inversion="edit-friendly",
    accepts=EVERY,
    section="objects",
    handles=("condition", "noise"),
    generates=True,
)
def shifts(job: Job, params: SeveralObjectsParams) -> list[Shift]:
    """The guidance of the noise, or nothing without objects."""
    from sfumato.shifts.energy.guidance import NoiseGuidance, window
    from sfumato.shifts.energy.pairs import Apart, Bound

    named = params.named()
    if not named:
        return []
    objects = words_of(job, named)
    terms: list[tuple[Term, float]] = [(presence(job, named, published=False), params.presence_weight)]
    if len(objects) > 1:
        terms.append((Apart(tuple(noun for *_, noun in objects)), params.apart_weight))
    for *attributes, noun in objects:
        terms += [(Bound(attribute, noun), params.bound_weight) for attribute in attributes]
    chosen = tuple((term, weight) for term, weight in terms if weight)
    return [NoiseGuidance(chosen, params.energy_scale, window(0, params.end), "unit", "objects")]
