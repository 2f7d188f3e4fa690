"""An edit in which everything has been read and checked: run here, or pickled and run by a worker."""

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Any, Protocol

from sfumato import __version__
from sfumato.api.edit_plan import EditPlan
from sfumato.api.editing import editing
from sfumato.api.finish import as_image
from sfumato.api.inverted import Inverted
from sfumato.api.inverting import inverting
from sfumato.api.result import Result
from sfumato.api.run import Progress, Run
from sfumato.errors import BadInput


class Planner(Protocol):
    """What makes plans: a `Model`."""

    def plan(self, images: Any, source: Any, target: Any, **options: Any) -> "Plan":
        """See `Model.plan`."""


@dataclass(frozen=True, eq=False)
class Plan:
    """An inversion and an edit of the same pictures; nothing has been evaluated but text encoders and autoencoder.

    A plan can be pickled; `pickle.loads` gives a `PickledPlan`, which any process makes a plan again with a loaded
    model. Pictures and masks travel with it, files of directions and of sentence banks are named by their paths.

    Attributes:
        sources: the pictures with outlines of their inversions.
        edit: what is done to them.
        request: the arguments of `Model.plan` with pictures and masks read.
    """

    sources: Inverted
    edit: EditPlan
    request: dict[str, Any]

    def run(self) -> Run[Result]:
        """Invert and edit, yielding after every step."""
        return Run(self.sources.model.network, self._both())

    def invert(self) -> Run[Inverted]:
        """Invert alone, yielding after every step."""
        return Run(self.sources.model.network, inverting(self.sources))

    def apply(self, inverted: Inverted) -> Run[Result]:
        """Edit what `invert` gave, yielding after every step."""
        return Run(self.sources.model.network, editing(inverted, self.edit))

    def _both(self) -> Generator[Progress, None, Result]:
        inverted = yield from inverting(self.sources)
        return (yield from editing(inverted, self.edit))

    def __reduce__(self) -> tuple[Any, ...]:
        fingerprint = self.sources.model.network.fingerprint()
        return _unpickled, ({"version": __version__, "model": fingerprint, "request": self.request},)


@dataclass(frozen=True, eq=False)
class PickledPlan:
    """A plan from another process.

    Attributes:
        model: fingerprint of the model that it was made for.
        request: the arguments of `Model.plan`.
    """

    model: str
    request: dict[str, Any]

    def on(self, model: Any) -> Plan:
        """The plan on a loaded model.

        Raises:
            BadInput: it was made for another model, or in another precision; or what `Model.plan` refuses.
        """
        if model.network.fingerprint() != self.model:
            raise BadInput("This plan was made for another model, or in another precision: load that one.")
        planner: Planner = model
        return planner.plan(**self.request)


def _unpickled(state: dict[str, Any]) -> PickledPlan:
    if state.get("version") != __version__:
        raise BadInput(
            f"This plan was pickled by sfumato {state.get('version')} and this is {__version__}: plan the edit again."
        )
    return PickledPlan(state["model"], state["request"])


def with_masks(plan: Plan) -> Plan:
    """The same with the masks that were read in the place of their files."""
    masks = [None if mask is None else as_image(mask) for mask in plan.edit.masks]
    return plan if all(mask is None for mask in masks) else replace(plan, request=plan.request | {"mask": masks})
