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

from sfumato.errors import BadInput
from sfumato.models.attention import AttentionTap, Layers, Waiting, attach
from sfumato.models.hooks import attach_hook
from sfumato.models.modules import Names, named


class Tap(Protocol):
    """Looks at, and perhaps replaces, the output of the modules that it names."""

    @property
    def module(self) -> Names:
        """Names or patterns of the modules."""

    def __call__(self, name: str, output: Tensor) -> Tensor | None:
        """Return what takes the output's place, or None to leave it; `name` is the module's full name."""


class Record:
    """Keeps the outputs of the latest evaluation.

    Attributes:
        module: names or patterns of the modules.
        outputs: module name to its output, with gradient history if there is any.
    """

    def __init__(self, module: Names) -> None:
        self.module = module
        self.outputs: dict[str, Tensor] = {}

    def __call__(self, name: str, output: Tensor) -> None:
        """Keep the output."""
        self.outputs[name] = output

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

    def __call__(self, name: str, output: Tensor) -> Tensor:
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
    """A pair of taps that carries what the source makes into the target; for a network with the source `Beside`.

    Attributes:
        source: looks at the source's evaluation at every step, and returns None.
        target: acts in the evaluation of the target that follows, on what `source` saw.
        left: steps, this one included, that look at the source in the same way: they may be evaluated together.
        replaces: names of the modules that `target` replaces something of; no other may replace it too.
    """

    source: AnyTap
    target: AnyTap
    left: int = 1
    replaces: tuple[str, ...] = ()


@contextmanager
def tapped(network: nn.Module, taps: Sequence[AnyTap]) -> Iterator[None]:
    """Put taps into a network for the length of a `with` block.

    Several taps of one module work in the order of the list; taps of attention maps see what taps of queries and
    keys left. The hooks are gone when the block ends, however it ends. They act in the thread that entered the
    block alone: others may evaluate the network meanwhile.

    Raises:
        BadInput: a tap names no module of the network or needs the source beside it, or (at the end of an evaluation
            of the network) names a module that the evaluation did not run.
    """
    if any(isinstance(tap, FromSource) for tap in taps):
        raise BadInput("A tap that carries something from the source needs the source: replay with `replay_beside`.")
    waiting: Waiting = {}
    plain = [cast(Tap, tap) for tap in taps if not of_maps(tap)]
    with ExitStack() as hooks:
        for tap in plain:
            for name, module in named(network, tap.module):
                waiting[name] = f"The network has the tapped module {name}, but never runs it by itself."
                hooks.callback(attach_hook(module, _hook(tap, name, waiting)).remove)
        for handle in attach(network, [tap for tap in taps if of_maps(tap)], waiting):
            hooks.callback(handle.remove)
        hooks.callback(attach_hook(network, _all_ran(waiting)).remove)
        yield


def of_maps(tap: AnyTap) -> TypeGuard[AttentionTap]:
    """Whether a tap is about attention maps."""
    return isinstance(getattr(tap, "layers", None), Layers)


def _hook(tap: Tap, name: str, waiting: Waiting) -> Callable[[nn.Module, Any, Any], Any]:
    def hook(module: nn.Module, inputs: Any, output: Any) -> Any:
        waiting.pop(name, None)
        if isinstance(output, Tensor):
            return tap(name, output)
        replacement = tap(name, output[0])
        return None if replacement is None else (replacement, *output[1:])

    return hook


def _all_ran(waiting: Waiting) -> Callable[[nn.Module, Any, Any], None]:
    def hook(module: nn.Module, inputs: Any, output: Any) -> None:
        for sentence in waiting.values():
            raise BadInput(sentence)

    return hook
