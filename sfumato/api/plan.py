"""Plans of edits and generations: checked once, and run in this process, or pickled and run in another process."""

from collections.abc import Generator
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from sfumato import __version__
from sfumato.api.edit_plan import EditPlan
from sfumato.api.editing import edit_run, editing
from sfumato.api.generating import generating
from sfumato.api.generation_plan import GenerationPlan
from sfumato.api.inverted import Inverted
from sfumato.api.inverting import inverting
from sfumato.api.loaded import Loaded
from sfumato.api.reading import check_reading, reading
from sfumato.api.result import Part, Result
from sfumato.api.run import Progress, Run
from sfumato.errors import BadInput


class Planner(Protocol):
    """Protocol of an object that creates plans, i.e. a `Model`."""

    def plan(self, images: Any, source: Any, target: Any, **options: Any) -> "Plan":
        """See `Model.plan`."""

    def plan_generation(self, prompts: Any, **options: Any) -> "Generation":
        """See `Model.plan_generation`."""


@dataclass(frozen=True, eq=False)
class Plan:
    """A checked inversion and edit of the same images, created by `Model.plan`.

    Only text encoders have been evaluated. A plan can be pickled: `pickle.loads` returns a `PickledPlan`, and
    `PickledPlan.on` creates the plan again for a model that is loaded in any process. The pickle contains images and
    masks, but only the paths of direction files and sentence banks.

    Attributes:
        sources: the images with planned inversions, which have no latents yet.
        edit: the checked edit.
        request: the arguments of `Model.plan`, with images and masks instead of their paths.
    """

    sources: Inverted
    edit: EditPlan
    request: dict[str, Any]

    def run(self) -> Run[Result]:
        """Run the inversion and the edit, yielding after every step; the result is that of the edit."""
        parts: list[Part] = []
        return Run(self.sources.model.network, self._both(parts), parts)

    def invert(self) -> Run[Inverted]:
        """Run only the inversion, yielding after every step."""
        return Run(self.sources.model.network, inverting(self.sources))

    def apply(self, inverted: Inverted) -> Run[Result]:
        """Run only the edit, yielding after every step.

        Args:
            inverted: the result of `invert` of this plan.
        """
        return edit_run(inverted, self.edit)

    def _both(self, parts: list[Part]) -> Generator[Progress, None, Result]:
        inverted = yield from inverting(self.sources)
        return (yield from editing(inverted, self.edit, parts))

    def __reduce__(self) -> tuple[Any, ...]:
        return _pickled(self.sources.model, self.request)


@dataclass(frozen=True, eq=False)
class Generation:
    """A checked generation, created by `Model.plan_generation`; it can be pickled like a `Plan`.

    Attributes:
        model: the model.
        plan: the checked generation.
        request: the arguments of `Model.plan_generation`.
    """

    model: Loaded
    plan: GenerationPlan
    request: dict[str, Any]

    def run(self) -> Run[Result]:
        """Generate the images, yielding after every step."""
        parts: list[Part] = []
        return Run(self.model.network, generating(self.model, self.plan, parts), parts)

    def __reduce__(self) -> tuple[Any, ...]:
        return _pickled(self.model, self.request, generation=True)


@dataclass(frozen=True, eq=False)
class PickledPlan:
    """An unpickled plan, which requires a loaded model.

    Attributes:
        model: fingerprint of the model that the plan was created for.
        request: the arguments of `Model.plan` or `Model.plan_generation`.
        reading: options for the interpretation of prompts with which that model was loaded (`sfumato.api.reading`).
        generation: whether the plan is a `Generation` instead of a `Plan`.
    """

    model: str
    request: dict[str, Any]
    reading: dict[str, Any] = field(default_factory=dict)
    generation: bool = False

    def on(self, model: Any) -> Plan | Generation:
        """Create the plan again for a loaded model.

        Args:
            model: a `Model` with the same weights, precision, `prompt_weights` and `prompt_chunks` as the one that the
                plan was created for.

        Raises:
            BadInput: the model differs in one of these; or as `Model.plan` or `Model.plan_generation`.
        """
        if model.network.fingerprint() != self.model:
            raise BadInput(
                "This plan was made for another model, or in another precision: load that model in that precision."
            )
        check_reading(model.network, self.reading, "This plan", "make the plan again")
        planner: Planner = model
        return planner.plan_generation(**self.request) if self.generation else planner.plan(**self.request)


def _pickled(model: Loaded, request: dict[str, Any], *, generation: bool = False) -> tuple[Any, ...]:
    """What `pickle` stores of a plan."""
    network = model.network
    made = {"version": __version__, "model": network.fingerprint(), "reading": reading(network)}
    return _unpickled, (made | {"request": request, "generation": generation},)


def _unpickled(state: dict[str, Any]) -> PickledPlan:
    if state.get("version") != __version__:
        raise BadInput(
            f"This plan was pickled by sfumato {state.get('version')} and this is {__version__}: make the plan again."
        )
    return PickledPlan(state["model"], state["request"], state["reading"], state["generation"])


def with_masks(plan: Plan) -> Plan:
    """Replace the paths of masks in the request of a plan by the masks that have been read."""
    masks = plan.edit.masks
    return plan if all(mask is None for mask in masks) else replace(plan, request=plan.request | {"mask": masks})
