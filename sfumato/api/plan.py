"""Plans of edits: checked once, run in this process or pickled and run in another."""

from collections.abc import Generator
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from sfumato import __version__
from sfumato.api.edit_plan import EditPlan
from sfumato.api.editing import editing
from sfumato.api.inverted import Inverted
from sfumato.api.inverting import inverting
from sfumato.api.reading import check_reading, reading
from sfumato.api.result import Result
from sfumato.api.run import Progress, Run
from sfumato.errors import BadInput


class Planner(Protocol):
    """An object that makes plans, i.e. a `Model`."""

    def plan(self, images: Any, source: Any, target: Any, **options: Any) -> "Plan":
        """See `Model.plan`."""


@dataclass(frozen=True, eq=False)
class Plan:
    """A checked inversion and edit of the same images, made by `Model.plan`.

    Only text encoders have been evaluated. A plan can be pickled: `pickle.loads` returns a
    `PickledPlan`, and `PickledPlan.on` turns it into a plan again on a model loaded in any process. The pickle
    contains images and masks, but only the paths of direction files and sentence banks.

    Attributes:
        sources: the images with planned inversions, which lack only their latents.
        edit: the checked edit.
        request: the arguments of `Model.plan`, with images and masks instead of their paths.
    """

    sources: Inverted
    edit: EditPlan
    request: dict[str, Any]

    def run(self) -> Run[Result]:
        """Invert and edit, yielding after every step; the result is that of the edit."""
        return Run(self.sources.model.network, self._both())

    def invert(self) -> Run[Inverted]:
        """Only invert, yielding after every step."""
        return Run(self.sources.model.network, inverting(self.sources))

    def apply(self, inverted: Inverted) -> Run[Result]:
        """Edit, yielding after every step.

        Args:
            inverted: the result of `invert` of this plan.
        """
        return Run(self.sources.model.network, editing(inverted, self.edit))

    def _both(self) -> Generator[Progress, None, Result]:
        inverted = yield from inverting(self.sources)
        return (yield from editing(inverted, self.edit))

    def __reduce__(self) -> tuple[Any, ...]:
        network = self.sources.model.network
        made = {"version": __version__, "model": network.fingerprint(), "reading": reading(network)}
        return _unpickled, (made | {"request": self.request},)


@dataclass(frozen=True, eq=False)
class PickledPlan:
    """An unpickled plan, which needs a loaded model.

    Attributes:
        model: fingerprint of the model that the plan was made for.
        request: the arguments of `Model.plan`.
        reading: how that model read prompts (`sfumato.api.reading`).
    """

    model: str
    request: dict[str, Any]
    reading: dict[str, Any] = field(default_factory=dict)

    def on(self, model: Any) -> Plan:
        """Make the plan again on a loaded model.

        Args:
            model: a `Model` with the same weights and precision as the one that the plan was made for, which reads
                prompts in the same way.

        Raises:
            BadInput: another model, precision or way of reading prompts; or as `Model.plan`.
        """
        if model.network.fingerprint() != self.model:
            raise BadInput(
                "This plan was made for another model, or in another precision: load that model in that precision."
            )
        check_reading(model.network, self.reading, "This plan", "plan the edit again")
        planner: Planner = model
        return planner.plan(**self.request)


def _unpickled(state: dict[str, Any]) -> PickledPlan:
    if state.get("version") != __version__:
        raise BadInput(
            f"This plan was pickled by sfumato {state.get('version')} and this is {__version__}: plan the edit again."
        )
    return PickledPlan(state["model"], state["request"], state.get("reading", {}))


def with_masks(plan: Plan) -> Plan:
    """The plan with masks that have been read instead of paths in its request."""
    masks = plan.edit.masks
    return plan if all(mask is None for mask in masks) else replace(plan, request=plan.request | {"mask": masks})
