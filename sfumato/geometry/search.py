"""Finding global directions: bases of many samples, matched; or principal components, to compare with."""

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
    """Directions that many samples share.

    Args:
        f: the map; its condition has one row, or one per sample.
        x: latents at f.t.
        n: how many directions.
        steps: of the run that f.t belongs to.
        step: index of f.t in that run.
        kind: "pullback": the samples' local bases, matched and averaged; "pca": principal components of h.
        names: of the directions; by default their numbers from 1.
        prompts: that the samples were drawn under, for the file.
        callback: called with the number of samples whose basis is known.

    Raises:
        BadInput: as `check_search`.
    """
    names = check_search(f, x, n, kind, names)
    if kind == "pullback":
        # v of all samples would be n times as large as their latents, and is of no use here
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
    """The names of n directions, by default their numbers; nothing is evaluated, x may have its shape alone.

    Raises:
        BadInput: n beyond the rank, not enough samples for n components, names that cannot be, another kind.
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
