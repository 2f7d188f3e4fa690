"""What a training run holds beside its networks, as named tensors that safetensors can keep (no pickle)."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from diffusers.training_utils import EMAModel
from torch import Tensor, nn


def numbered(tensors: list[Tensor]) -> dict[str, Tensor]:
    """A list of tensors under the names `00000`, `00001`, ..."""
    return {f"{i:05d}": t for i, t in enumerate(tensors)}


@contextmanager
def contiguous(modules: Sequence[nn.Module]) -> Iterator[None]:
    """While entered, weights lie in memory in the order of their dimensions, as files want them."""
    kept = [(p, p.data) for module in modules for p in module.parameters() if not p.is_contiguous()]
    try:
        for parameter, values in kept:
            parameter.data = values.contiguous()
        yield
    finally:
        for parameter, values in kept:
            parameter.data = values


class EMAWeights:
    """A context in which modules hold their EMA weights; left, they have their own back."""

    def __init__(self, pairs: Iterable[tuple[nn.Module, EMAModel]]) -> None:
        self.pairs = list(pairs)

    def __enter__(self) -> None:
        for module, ema in self.pairs:
            parameters = list(module.parameters())
            ema.store(parameters)
            ema.copy_to(parameters)

    def __exit__(self, *_: object) -> None:
        for module, ema in self.pairs:
            ema.restore(list(module.parameters()))
