"""Reading and replacing what a network computes inside, in a scope that leaves the network as it was.

A tap names modules of the network as `network.named_modules()` does ("mid_block", "up_blocks.1.resnets.0"), or by a
shell-style pattern that is matched part by part (`sfumato.models.modules`): "down_blocks.*.resnets.*" are all residual
blocks, and not what is inside them. Where a module returns several tensors the tap is about the first. Taps of
attention maps are in `sfumato.models.attention`.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, TypeGuard, cast

from torch import Tensor, nn

from sfumato.core.condition import Condition
from sfumato.core.rows import TARGET, Rows
from sfumato.errors import BadInput
from sfumato.hooks import attach_hook
from sfumato.models.attention import AttentionTap, Layers, Waiting, attach
from sfumato.models.modules import Names, named


class Tap(Protocol):
    """Looks at, and perhaps replaces, the output of the modules that it names."""

    @property
    def module(self) -> Names:
        """Names or patterns of the modules."""

    def __call__(self, name: str, output: Tensor, rows: Rows) -> Tensor | None:
        """Return what takes the output's place, or None to leave it.

        Args:
            name: the module's full name.
            output: what it returns, with one row for every row of the evaluation.
            rows: which conditions and images the rows of the evaluation are.
        """


class Record:
    """Keeps the outputs of the latest evaluation.

    Attributes:
        module: names or patterns of the modules.
        of: name of the condition whose rows are kept; "" for all rows.
        outputs: module name to its output, with gradient history if there is any.
    """

    def __init__(self, module: Names, of: str = "") -> None:
        self.module = module
        self.of = of
        self.outputs: dict[str, Tensor] = {}

    def __call__(self, name: str, output: Tensor, rows: Rows) -> None:
        """Keep the output."""
        self.outputs[name] = output[rows.of(self.of)] if self.of else output

    @property
    def output(self) -> Tensor:
        """The output of the one module that was recorded.

        Raises:
            BadInput: none or several were.
        """
        if len(self.outputs) != 1:
            raise BadInput(f'The tap "{self.module}" recorded {len(self.outputs)} modules; ask for `outputs`.')
        return next(iter(self.outputs.values()))


class Replace:
    """Puts `change(output)` in the place of an output.

    Attributes:
        module: names or patterns of the modules.
        change: the output to what replaces it, of the same shape.
    """

    def __init__(self, module: Names, change: Callable[[Tensor], Tensor]) -> None:
        self.module = module
        self.change = change

    def __call__(self, name: str, output: Tensor, rows: Rows) -> Tensor:
        """The replacement.

        Raises:
            BadInput: it has another shape.
        """
        replacement = self.change(output)
        if replacement.shape != output.shape:
            raise BadInput(
                f"The replacement for {name} must have the shape {tuple(output.shape)}, not {tuple(replacement.shape)}."
            )
        return replacement


AnyTap: TypeAlias = Tap | AttentionTap


@dataclass(frozen=True)
class FromSource:
    """A pair of taps that carries what the source computes into the target; for a network `Beside` its source.

    Attributes:
        source: reads the source's evaluation of the same step, and returns None.
        target: acts in the evaluation of the target that follows, on what `source` read.
        left: steps, this one included, in which the same is read: the source may be evaluated for several together.
        under: condition of the source's evaluation, one row per image; None for the prompt of the inversion.
    """

    source: AnyTap
    target: AnyTap
    left: int = 1
    under: Condition | None = None


@contextmanager
def tapped(network: nn.Module, taps: Sequence[AnyTap], rows: Rows | None = None) -> Iterator[None]:
    """Put taps into a network for the length of a `with` block.

    `rows` says which conditions and images the rows of the evaluations are; the condition of one run by default.

    Several taps of one module work in the order of the list; taps of attention maps see what taps of queries and
    keys left. The hooks are gone when the block ends, however it ends. They act in the thread that entered the
    block alone: others may evaluate the network meanwhile.

    Raises:
        BadInput: a tap names no module of the network or needs the source beside it, or (at the end of an evaluation
            of the network) names a module that the evaluation did not run.
    """
    if any(isinstance(tap, FromSource) for tap in taps):
        raise BadInput("A tap that carries something from the source needs an inverted picture as the source.")
    waiting: Waiting = {}
    plain = [cast(Tap, tap) for tap in taps if not of_maps(tap)]
    with ExitStack() as hooks:
        for tap in plain:
            for name, module in named(network, tap.module):
                waiting[name] = f"The network has the tapped module {name}, but never runs it by itself."
                hooks.callback(attach_hook(module, _hook(tap, name, rows, waiting)).remove)
        for handle in attach(network, [tap for tap in taps if of_maps(tap)], rows, waiting):
            hooks.callback(handle.remove)
        hooks.callback(attach_hook(network, _all_ran(waiting)).remove)
        yield


def of_maps(tap: AnyTap) -> TypeGuard[AttentionTap]:
    """Whether a tap is about attention maps."""
    return isinstance(getattr(tap, "layers", None), Layers)


def _hook(tap: Tap, name: str, rows: Rows | None, waiting: Waiting) -> Callable[[nn.Module, Any, Any], Any]:
    def hook(module: nn.Module, inputs: Any, output: Any) -> Any:
        waiting.pop(name, None)
        first = output if isinstance(output, Tensor) else output[0]
        replacement = tap(name, first, rows or Rows((TARGET,), len(first)))
        if isinstance(output, Tensor):
            return replacement
        return None if replacement is None else (replacement, *output[1:])

    return hook


def _all_ran(waiting: Waiting) -> Callable[[nn.Module, Any, Any], None]:
    def hook(module: nn.Module, inputs: Any, output: Any) -> None:
        for sentence in waiting.values():
            raise BadInput(sentence)

    return hook
