"""EMA weights as named tensors for safetensors, and contexts that swap the weights of modules."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from diffusers.training_utils import EMAModel
from torch import Tensor, nn


def numbered(tensors: list[Tensor]) -> dict[str, Tensor]:
    """Name the tensors of a list `00000`, `00001`, ..."""
    return {f"{i:05d}": t for i, t in enumerate(tensors)}


@contextmanager
def contiguous(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Context in which all parameters are contiguous, as saving to safetensors requires."""
    kept = [(p, p.data) for module in modules for p in module.parameters() if not p.is_contiguous()]
    try:
        for parameter, values in kept:
            parameter.data = values.contiguous()
        yield
    finally:
        for parameter, values in kept:
            parameter.data = values


class EMAWeights:
    """Context in which modules have their EMA weights; their trained weights are restored on exit."""

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
