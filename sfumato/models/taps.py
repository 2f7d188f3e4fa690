"""Taps: read and replace outputs of modules in a `with` block; the network is restored when the block ends.

A tap selects modules by their names in `network.named_modules()` ("mid_block", "up_blocks.1.resnets.0"), or by
shell-style patterns that are matched part by part (`sfumato.models.modules`): "down_blocks.*.resnets.*" matches all
residual blocks, but not the modules in them. If a module returns several tensors, the tap receives the first one. For
taps of attention maps see `sfumato.models.attention`.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, TypeGuard, cast

from torch import Tensor, nn

from sfumato.core.condition import Condition
from sfumato.core.rows import TARGET, Rows
from sfumato.errors import BadInput
from sfumato.hooks import attach_hook
from sfumato.models.attention import AttentionTap, Layers, Waiting, attach
from sfumato.models.checkpointing import Checkpoints
from sfumato.models.modules import Names, named
from sfumato.models.references import References

NO_SOURCE = "A tap that reads the source needs an inverted image as the source: invert an image first."


class Tap(Protocol):
    """A callable that reads, and optionally replaces, the outputs of modules."""

    @property
    def module(self) -> Names:
        """Names or patterns of the modules."""

    def __call__(self, name: str, output: Tensor, rows: Rows) -> Tensor | None:
        """Return the new output, or None to leave it.

        Args:
            name: full name of the module.
            output: output of the module, with the rows of the batch.
            rows: layout of the rows: their conditions and images.
        """


class Record:
    """A tap that records the outputs of the latest evaluation.

    Attributes:
        module: names or patterns of the modules.
        of: name of the condition whose rows are recorded; "" for all rows.
        outputs: the outputs by module name, with gradient history if gradients are enabled.
    """

    def __init__(self, module: Names, of: str = "") -> None:
        self.module = module
        self.of = of
        self.outputs: dict[str, Tensor] = {}

    def __call__(self, name: str, output: Tensor, rows: Rows) -> None:
        """Record the output of a module."""
        self.outputs[name] = output[rows.of(self.of)] if self.of else output

    @property
    def output(self) -> Tensor:
        """The recorded output of a tap of a single module.

        Raises:
            BadInput: not exactly one module was recorded.
        """
        if len(self.outputs) != 1:
            raise BadInput(f'The tap "{self.module}" recorded {len(self.outputs)} modules, not 1; use `outputs`.')
        return next(iter(self.outputs.values()))


class Replace:
    """A tap that replaces outputs by `change(output)`.

    Attributes:
        module: names or patterns of the modules.
        change: maps an output to the new output, of the same shape.
    """

    def __init__(self, module: Names, change: Callable[[Tensor], Tensor]) -> None:
        self.module = module
        self.change = change

    def __call__(self, name: str, output: Tensor, rows: Rows) -> Tensor:
        """The new output.

        Raises:
            BadInput: it has another shape than the output.
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
    """A pair of taps that uses outputs of the source in the target; requires a `WithSource` network.

    Attributes:
        source: tap of the source's evaluation at the same step; it must return None.
        target: tap of the target's evaluation, which follows; it uses what `source` recorded.
        left: number of steps, the current one included, in which the same modules are read; these steps may be
            evaluated in one batch.
        under: condition of the source's evaluation, one row per image; None for the prompt of the inversion.
        images: other images that are the source, one row per reference, instead of the inverted ones; `under` is None.
        again: whether another evaluation of the same step follows, which reads the same outputs of the source.
    """

    source: AnyTap
    target: AnyTap
    left: int = 1
    under: Condition | None = None
    images: References | None = None
    again: bool = False


@contextmanager
def tapped(
    network: nn.Module, taps: Sequence[AnyTap], rows: Rows | None = None, *, stop: bool = False
) -> Iterator[None]:
    """Attach taps to a network in a `with` block.

    Several taps of one module are applied in the order of the list. Maps for taps of attention maps are computed after
    other taps have replaced queries and keys. The hooks are removed when the block ends, also after an exception. They
    are called only in the thread that entered the block, so that other threads can evaluate the network meanwhile.

    Args:
        network: the network.
        taps: taps of modules or attention maps.
        rows: layout of the batches; by default all rows belong to the target condition.
        stop: end the forward pass, and the block, when all tapped modules have run: for taps that only read.

    Raises:
        BadInput: a tap names no module of the network or requires a source; or, at the end of an evaluation, a tapped
            module did not run.
    """
    if any(isinstance(tap, FromSource) for tap in taps):
        raise BadInput(NO_SOURCE)
    waiting: Waiting = {}
    checkpoints = Checkpoints(network)
    plain = [cast(Tap, tap) for tap in taps if not of_maps(tap)]
    with ExitStack() as hooks:
        for tap in plain:
            for name, module in named(network, tap.module):
                waiting[name] = f"The network has the tapped module {name}, but never runs it directly; tap another."
                hooks.callback(attach_hook(module, _hook(tap, name, rows, waiting, checkpoints)).remove)
        for handle in attach(network, [tap for tap in taps if of_maps(tap)], rows, waiting, checkpoints):
            hooks.callback(handle.remove)
        hooks.callback(checkpoints.close)
        for handle in checkpoints.hooks([name for name in waiting if isinstance(name, str)]):
            hooks.callback(handle.remove)
        hooks.callback(attach_hook(network, _all_ran(waiting)).remove)
        if stop:
            for module in {module for tap in taps for module in modules_of(network, tap).values()}:
                hooks.callback(attach_hook(module, _stop(waiting)).remove)  # after the hooks of the taps
        with suppress(_Stopped):
            yield


def of_maps(tap: AnyTap) -> TypeGuard[AttentionTap]:
    """Whether a tap is a tap of attention maps."""
    return isinstance(getattr(tap, "layers", None), Layers)


def _hook(
    tap: Tap, name: str, rows: Rows | None, waiting: Waiting, checkpoints: Checkpoints
) -> Callable[[nn.Module, Any, Any], Any]:
    def hook(module: nn.Module, inputs: Any, output: Any) -> Any:
        waiting.pop(name, None)
        first = output if isinstance(output, Tensor) else output[0]
        with checkpoints.hooked(name) as replaced:
            replacement = tap(name, first, rows or Rows((TARGET,), len(first)))
            if replacement is not None:
                replaced()
        if isinstance(output, Tensor):
            return replacement
        return None if replacement is None else (replacement, *output[1:])

    return hook


def modules_of(network: nn.Module, tap: AnyTap) -> dict[str, nn.Module]:
    """The modules or attention layers that a tap acts on, by their full names."""
    return dict(tap.layers.of(network) if of_maps(tap) else named(network, cast(Tap, tap).module))


class _Stopped(Exception):
    """Ends a forward pass after the last tapped module."""


def _stop(waiting: Waiting) -> Callable[[nn.Module, Any, Any], None]:
    def hook(module: nn.Module, inputs: Any, output: Any) -> None:
        if not waiting:
            raise _Stopped

    return hook


def _all_ran(waiting: Waiting) -> Callable[[nn.Module, Any, Any], None]:
    def hook(module: nn.Module, inputs: Any, output: Any) -> None:
        for sentence in waiting.values():
            raise BadInput(sentence)

    return hook
