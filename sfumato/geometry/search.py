"""Computation of global directions: matched local bases of many samples, or principal components of h as a baseline."""

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.errors import BadInput
from sfumato.geometry.basis import Basis, check_n, local_bases
from sfumato.geometry.directions import KINDS, Directions, Kind, check_names
from sfumato.geometry.jacobian import BottleneckMap
from sfumato.geometry.matching import mean_directions, principal_directions


def find_directions(
    f: BottleneckMap,
    x: Float[Tensor, "samples c h w"],
    n: int,
    *,
    steps: int,
    step: int = 0,
    kind: Kind = "pullback",
    names: Sequence[str] = (),
    prompts: Sequence[str] = (),
    callback: Callable[[int], None] | None = None,
) -> Directions:
    """Find global directions from latents of many samples.

    Args:
        f: the map from x_t to the bottleneck; its condition has one row, or one per sample.
        x: latents at f.t.
        n: number of directions.
        steps: number of steps of the run that contains f.t.
        step: index of f.t in that run, from 0.
        kind: "pullback": the samples' local bases, matched and averaged; "pca": principal components of h.
        names: names of the directions; by default their numbers from 1.
        prompts: prompts from which the latents were sampled, stored in the result.
        callback: called with the number of samples whose basis is computed.

    Raises:
        BadInput: as `check_search`.
    """
    names = check_search(f, x, n, kind, names)
    if kind == "pullback":
        # v is discarded, as it would need n times the memory of the latents
        parts = [(part.u, part.values) for part in _reported(local_bases(f, x, n), callback)]
        matched = mean_directions(*(torch.cat(each) for each in zip(*parts, strict=True)))
        u, values, overlap = matched.mean, matched.values, matched.overlap.mean(dim=0)
    else:
        u, values = principal_directions(f(x), n)
        overlap = torch.ones_like(values)
    return Directions(
        u=u,
        names=names,
        kind=kind,
        model=f.network.fingerprint(),
        t=f.t,
        steps=steps,
        step=step,
        latent=(x.shape[1], x.shape[2], x.shape[3]),
        pool=f.pool,
        values=tuple(values.tolist()),
        overlap=tuple(overlap.tolist()),
        samples=len(x),
        prompts=tuple(dict.fromkeys(prompts)),
    )


def check_search(
    f: BottleneckMap, x: Float[Tensor, "samples c h w"], n: int, kind: Kind, names: Sequence[str]
) -> tuple[str, ...]:
    """Check the arguments of `find_directions` without evaluating the network; only the shape of x is used.

    Returns:
        The names of the directions, by default their numbers from 1.

    Raises:
        BadInput: n exceeds the rank, there are too few samples for n principal components, a name is invalid, or the
            kind is unknown.
    """
    check_n(f, x, n)
    if kind not in KINDS:
        raise BadInput(f"kind must be one of {', '.join(KINDS)}, not {kind!r}.")
    names = check_names(names or [str(i + 1) for i in range(n)])
    if len(names) != n:
        raise BadInput(f"Give {n} names, one for each direction, not {len(names)}.")
    if kind == "pca" and n >= len(x):
        raise BadInput(f"{len(x)} samples have at most {len(x) - 1} principal components, not {n}: take more samples.")
    return names


def _reported(parts: Iterable[Basis], callback: Callable[[int], None] | None) -> Iterator[Basis]:
    done = 0
    for part in parts:
        done += len(part)
        if callback is not None:
            callback(done)
        yield part
