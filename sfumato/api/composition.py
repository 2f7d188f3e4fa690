"""A composition: the methods of an edit or a generation with their parameters, and the shifts of the caller."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from sfumato.api.arguments import check_run
from sfumato.api.prompts import uses_negative
from sfumato.api.report import described_shift, parameters
from sfumato.core.loop import conflict
from sfumato.core.shift import Shift
from sfumato.editing.job import Job
from sfumato.editing.registry import Method
from sfumato.errors import BadInput
from sfumato.geometry.edit import MoveLatent
from sfumato.models.diffusion_model import DiffusionModel
from sfumato.models.tiles import NO_TAPS, TiledModel
from sfumato.options.params import Params, options_of
from sfumato.shifts.carry import Carry


@dataclass(frozen=True, eq=False)
class Composition:
    """The methods and shifts of one edit.

    Attributes:
        methods: pairs of a method and its parameters, in the order in which their shifts are applied.
        shifts: shifts of the caller, which are applied after those of the methods.
        run: parameters of the run, used if `methods` is empty.
    """

    methods: tuple[tuple[Method, Params], ...]
    shifts: tuple[Shift, ...]
    run: Params

    @property
    def params(self) -> Params:
        """The parameters that contain the `SHARED` options of the run: those of the first method."""
        return self.methods[0][1] if self.methods else self.run

    @property
    def skip(self) -> int:
        """Number of first (noisiest) steps to skip."""
        return int(getattr(self.params, "skip", 0))

    @property
    def keeps_prompt(self) -> bool:
        """Whether an edit without a target prompt uses the source prompt instead."""
        return bool(self.shifts) or any(params.keeps_prompt for _, params in self.methods)

    @property
    def under_source(self) -> bool:
        """Whether the run is conditioned on the source prompt."""
        return any(method.under_source for method, _ in self.methods)

    @property
    def needs_reference(self) -> bool:
        """Whether a method compares generated images with those of the same seeds without any method."""
        return any(params.needs_reference for _, params in self.methods)

    def notes(self, prompts: Sequence[tuple[str, str]]) -> list[str]:
        """Return the notes of the methods on prompts and options that had no effect, and on methods without effect.

        Args:
            prompts: source and target prompt of every image.
        """
        inactive = [(method.name, params.lacks) for method, params in self.methods if params.lacks]
        found = [f"The method {name} had no effect without {' or '.join(options)}." for name, options in inactive]
        if any(params.reads_target for _, params in self.methods):
            prompts = [(source, "") for source, _ in prompts]
        return found + [note for _, params in self.methods for note in params.notes(prompts)]

    def path(self, steps: int) -> tuple[int, ...]:
        """Return the noise levels in the order in which the edit visits them; () if every step is run once.

        Args:
            steps: number of steps of the edit, without skipped steps.

        Raises:
            BadInput: two methods repeat different steps.
        """
        found = {method.name: tuple(path) for method, params in self.methods if (path := params.path(steps))}
        if len(set(found.values())) > 1:
            raise BadInput(f"{' and '.join(found)} repeat different steps of the run: use one of them.")
        return next(iter(found.values()), ())

    def finish(self, edited: Tensor, source: Tensor | None, inside: Tensor | None = None) -> Tensor:
        """Apply the post-processing of all methods to decoded images, in order; see `Params.finish`."""
        for _, params in self.methods:
            edited = params.finish(edited, source, inside)
        return edited

    def uses_negative(self, guidance_scale: float) -> bool:
        """Return whether a negative prompt has an effect at this guidance scale."""
        return uses_negative([params for _, params in self.methods], guidance_scale)

    def check_run(
        self, network: DiffusionModel, sizes: Sequence[tuple[int, int]], sources: Sequence[str], targets: Sequence[str]
    ) -> None:
        """Check that the methods fit the model, the images and the prompts.

        Args:
            network: the model.
            sizes: (height, width) of the latents of every group of images.
            sources: source prompts.
            targets: target prompts.

        Raises:
            BadInput: as `Params.check_run`.
        """
        for method, params in self.methods:
            read = targets if method.reads_target(params, self.under_source) else sources
            check_run(network, params, sizes, sources, read)

    def of(self, job: Job) -> list[Shift]:
        """Create all shifts for a batch of edits, in order; shifts with `Shift.keeps_source` are last.

        Raises:
            BadInput: a shift replaces a quantity that another shift replaces or reads in the same step; or a shift
                reads or replaces features of the network in an edit with tiles.
        """
        made = [(method.name, shift) for method, params in self.methods for shift in method.shifts(job, params)]
        made += [(type(shift).__name__, shift) for shift in self.shifts]
        made.sort(key=lambda pair: pair[1].keeps_source)
        shifts = [shift for _, shift in made]
        if isinstance(job.network, TiledModel):
            _check_tiles(made)
        if found := conflict(shifts, len(job.timesteps)):
            names = [next(name for name, shift in made if shift is each) for each in found.shifts]
            raise BadInput(f"{found.sentence(*names)}: leave one of them out{_or_for_no_steps(names, found.shifts)}.")
        return shifts

    def described(self, values: Callable[[Params], Mapping[str, Any]] = parameters) -> list[dict[str, Any]]:
        """Describe the methods with their options, and the shifts, as JSON values for reports and recipes.

        Args:
            values: converts the parameters of a method to JSON values.
        """
        described = [(method.name, values(params), options_of(type(params), "edit")) for method, params in self.methods]
        methods = [
            {"method": name} | {option: given[option] for option in options} for name, given, options in described
        ]
        return methods + [described_shift(shift) for shift in self.shifts]


def _or_for_no_steps(names: Sequence[str], shifts: Sequence[Shift]) -> str:
    """The alternative to leaving a shift out for those that act in a fraction of the steps; "" if there are none."""
    able = [name for name, shift in zip(names, shifts, strict=True) if isinstance(shift, Carry)]
    return f", or set the fraction of the steps of {' or '.join(able)} to 0" if able else ""


def _check_tiles(made: Sequence[tuple[str, Shift]]) -> None:
    """Raise BadInput if a shift reads or replaces features or attention maps, which tiles do not support."""
    for name, shift in made:
        hooks = ("taps", "prediction_taps", "energy")
        tapped = any(getattr(type(shift), hook) is not getattr(Shift, hook) for hook in hooks)
        if tapped or isinstance(shift, MoveLatent):  # its hook `latent` evaluates the bottleneck
            raise BadInput(f"{name}: {NO_TAPS}.")
