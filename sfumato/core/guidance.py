"""Guidance: a weighted sum of the noises predicted under several conditions, in one forward pass of the network.

    eps = e_0 + sum_k w_k (e_k - e_0) = (1 - sum_k w_k) e_0 + sum_k w_k e_k,      e_k = eps(x_t, t, c_k)

Classifier-free guidance (Ho and Salimans, arXiv 2207.12598, eq. 6): e_0 is the prediction under the negative prompt,
and the single term under the prompt has the guidance scale as its weight. Two-modality guidance (PARASOL, arXiv
2303.06464): e_0 is unconditional, one term is for the style and one for the content. InstructPix2Pix (arXiv 2211.09800,
eq. 3): e_0 is unconditional, the term with the image only has the weight s_I - s_T, the term with image and text s_T.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core.condition import Condition
from sfumato.core.rows import NEGATIVE, TARGET
from sfumato.core.schedule import Schedule
from sfumato.core.state import Denoiser, NetworkTap

Weights: TypeAlias = tuple[float, ...] | Callable[[int], tuple[float, ...]]
"""One weight per image, constant or as a function of the timestep."""


@dataclass(frozen=True, eq=False)
class Term:
    """One prediction e_k of the sum.

    Attributes:
        name: name of its rows in the batch, see `sfumato.core.rows`.
        condition: c_k, one row per image; None for the condition of the run.
        weights: w_k, one per image; ignored for the first term, whose weight is 1 - sum_k w_k.
    """

    name: str
    condition: Condition | None
    weights: Weights = ()

    def at(self, t: int) -> tuple[float, ...]:
        """Return the weights at timestep t, one per image."""
        return self.weights(t) if callable(self.weights) else self.weights


@dataclass(frozen=True, eq=False)
class Guided:
    """A network with guidance: a `Denoiser` whose prediction is the guided noise.

    A term whose weight is 0 for every image at a timestep is not evaluated at that timestep. The term of the run's
    condition is always evaluated, because taps of shifts may read it. For an image whose weights sum to 1, e_0 cancels
    and the result is sum_k w_k e_k, even if other images of the batch need e_0. The result for an image therefore does
    not depend on the other images of its batch.

    Attributes:
        network: the network without guidance.
        terms: the first one is e_0; a single term means no guidance. Exactly one term, that of the run's condition,
            has the condition None.
    """

    network: Denoiser
    terms: tuple[Term, ...]

    @property
    def schedule(self) -> Schedule:
        """Noise schedule of the network."""
        return self.network.schedule

    @property
    def guidance_scale(self) -> tuple[float, ...]:
        """Weight of the run's condition at the last (noisiest) training timestep, one per image."""
        return self._own().at(len(self.schedule) - 1)

    def condition_of(self, name: str) -> Condition:
        """Return the condition of the term with this name, other than that of the run.

        Raises:
            KeyError: there is no such term, or its condition is that of the run.
        """
        return {term.name: term.condition for term in self.terms if term.condition is not None}[name]

    def calls(self, t: int) -> int:
        """Return the number of rows per image of one evaluation at timestep t, i.e. of evaluated terms."""
        return len(self._evaluated(t))

    def rows(self, index: Sequence[int]) -> "Guided":
        """Return the same guidance for selected images: image index[j] becomes row j."""
        return replace(self, terms=tuple(_rows(term, list(index)) for term in self.terms))

    def predict(
        self,
        x: Float[Tensor, "b c h w"],
        t: int | Tensor,
        cond: Condition,
        taps: Sequence[NetworkTap] | None = None,
        known: Mapping[str, Float[Tensor, "b c h w"]] | None = None,
        apart: Sequence[str] = (),
    ) -> Float[Tensor, "b c h w"]:
        """Predict the guided noise.

        Args:
            x: latents, one row per image.
            t: timestep, one for all or one per row.
            cond: the condition of the run, one row per image.
            taps: taps that read or replace features or attention maps of the network.
            known: predictions that are already computed, by the name of their term; they are not evaluated again.
            apart: names of terms that are evaluated in a forward pass of their own, in this order.

        Returns:
            The guided noise, in float32 if the network computes in half precision.
        """
        levels = [t] if isinstance(t, int) else t.tolist()
        terms, known = self._evaluated(*levels), known or {}
        wanted = {term.name: term.condition if term.condition is not None else cond for term in terms}
        wanted = {name: condition for name, condition in wanted.items() if name not in known}
        first = {name: wanted.pop(name) for name in apart if name in wanted}
        found = {name: _full(eps) for name, eps in known.items()}
        for together in (first, wanted):
            found |= _predict(self.network, x, t, together, taps)
        if len(terms) == 1:
            return found[terms[0].name]
        return self._sum(terms, found, levels)

    def _sum(
        self, terms: Sequence[Term], found: Mapping[str, Float[Tensor, "b c h w"]], levels: Sequence[int]
    ) -> Float[Tensor, "b c h w"]:
        """Compute sum_k w_k e_k for images whose weights sum to 1, e_0 + sum_k w_k (e_k - e_0) for the others."""
        base, *others = self.terms
        like = found[terms[0].name]
        added = [(_column(term, levels, like), found[term.name]) for term in terms if term is not base]
        cancels = [sum(weights) == 1 for weights in zip(*(_weights(term, levels) for term in others), strict=True)]
        direct, moved = torch.zeros_like(like), like
        for weight, eps in added:
            direct = direct + weight * eps
            moved = moved + weight * (eps - like)
        return torch.where(torch.tensor(cancels, device=like.device).reshape(-1, 1, 1, 1), direct, moved)

    def _own(self) -> Term:
        return next(term for term in self.terms if term.condition is None)

    def _evaluated(self, *levels: int) -> list[Term]:
        """The terms to evaluate at these timesteps: those with a nonzero weight, and that of the run's condition."""
        base, *others = self.terms
        if not others:
            return [base]
        sums = [sum(weights) for t in levels for weights in zip(*(term.at(t) for term in others), strict=True)]
        first = [base] if any(total != 1 for total in sums) or base.condition is None else []
        return first + [term for term in others if any(map(any, map(term.at, levels))) or term.condition is None]


def classifier_free(network: Denoiser, negative: Condition | None, guidance_scale: Sequence[float]) -> Guided:
    """Classifier-free guidance: eps = eps(x, negative) + s (eps(x, condition) - eps(x, negative)).

    If every s is 1, the negative prediction cancels and is not evaluated.

    Args:
        network: the network without guidance.
        negative: the negative or unconditional condition, one row per image; None for a network without conditions.
        guidance_scale: s, one per image.
    """
    own = Term(TARGET, None, tuple(float(scale) for scale in guidance_scale))
    return Guided(network, (own,) if negative is None else (Term(NEGATIVE, negative), own))


def _predict(
    network: Denoiser,
    x: Tensor,
    t: int | Tensor,
    conditions: Mapping[str, Condition],
    taps: Sequence[NetworkTap] | None,
) -> dict[str, Float[Tensor, "b c h w"]]:
    """Predicted noises under all conditions, in one forward pass."""
    if not conditions:
        return {}
    if len(conditions) == 1:
        ((name, condition),) = conditions.items()
        named = condition if name == TARGET else Condition.join(conditions)
        return {name: _full(network.predict(x, t, named, taps))}
    count = len(conditions)
    joined = Condition.join(conditions)
    every = t if isinstance(t, int) else t.repeat(count)
    eps = _full(network.predict(x.repeat(count, 1, 1, 1), every, joined, taps))
    return dict(zip(conditions, eps.chunk(count), strict=True))


def _rows(term: Term, index: list[int]) -> Term:
    weights = term.weights
    if callable(weights):
        chosen: Weights = lambda t: tuple(weights(t)[j] for j in index)  # noqa: E731
    else:
        chosen = tuple(weights[j] for j in index) if weights else ()
    return replace(term, condition=None if term.condition is None else term.condition[index], weights=chosen)


def _weights(term: Term, levels: Sequence[int]) -> Sequence[float]:
    """One weight per row; `levels` are the timesteps, one for all rows or one per row."""
    return term.at(levels[0]) if len(levels) == 1 else [term.at(t)[row] for row, t in enumerate(levels)]


def _column(term: Term, levels: Sequence[int], like: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 1 1 1"]:
    """Weights as [b,1,1,1]; `levels` as for `_weights`."""
    return torch.tensor(_weights(term, levels), dtype=like.dtype, device=like.device).reshape(-1, 1, 1, 1)


def _full(eps: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """Convert half precision to float32, as it would lose the small differences e_k - e_0; keep other dtypes."""
    return eps.float() if eps.dtype in (torch.float16, torch.bfloat16) else eps
