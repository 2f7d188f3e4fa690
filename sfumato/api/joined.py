"""Batching of edits of one inversion that start at different steps.

Edits without shifts differ only in the first step of their replay and in their prompts and guidance scales. They use
the same noise maps at the same timesteps, so that each edit can be added to the batch at its first step. Larger batches
take less time per row.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import islice, pairwise

import torch
from torch import Tensor

from sfumato.api.edit_plan import EditPlan
from sfumato.api.editing import edit_run
from sfumato.api.group import at_once
from sfumato.api.inverted import Inverted
from sfumato.api.result import Result
from sfumato.core.condition import Condition
from sfumato.core.guidance import Guided, Term
from sfumato.core.loop import recorded, reverse
from sfumato.core.shift import Shift
from sfumato.core.state import StepEnd
from sfumato.editing.job import Job


def edited_together(inverted: Inverted, plans: Sequence[EditPlan]) -> list[Result]:
    """Run edits of one inverted image, in one batch if possible.

    Args:
        inverted: one inverted image.
        plans: checked edits of this image.

    Returns:
        One result per plan, as `Inverted.edit` returns it, up to rounding errors that depend on the batch size. The
        reports of edits that were computed in one batch do not contain the network evaluations.
    """
    joined = len(plans) > 1 and all(map(_joinable, plans)) and _rows(plans) <= at_once(_shape(inverted), inverted.batch)
    plans = _with_last_steps(inverted, plans) if joined else plans
    return [edit_run(inverted, plan).result for plan in plans]


@dataclass(frozen=True, eq=False)
class _Done(Job):
    """A job whose replay has already been computed.

    Attributes:
        last: the last step of the replay.
    """

    last: StepEnd | None = None

    def run(self, shifts: Sequence[Shift]) -> Iterator[StepEnd]:
        """Yield the last step."""
        assert self.last is not None
        yield self.last


def _joinable(plan: EditPlan) -> bool:
    """Whether an edit has a single batch, no shifts, masks or repeated steps, constant guidance, and no check."""
    (first, *others), bounded = plan.batches, plan.region is not None or any(mask is not None for mask in plan.masks)
    constant = all(not callable(term.weights) for term in first.job.guidance.terms)
    return not others and not first.shifts and not first.job.path and not bounded and not plan.check and constant


def _with_last_steps(inverted: Inverted, plans: Sequence[EditPlan]) -> list[EditPlan]:
    """Run the replays of all plans in one batch and return the plans with their last steps."""
    inversion = inverted.groups[0].inversion
    order = sorted(range(len(plans)), key=lambda n: plans[n].batches[0].job.skip)
    jobs = [plans[n].batches[0].job for n in order]
    starts = [*dict.fromkeys(job.skip for job in jobs), inversion.steps]
    x, last = inversion.x[0][:0], None
    for start, end in pairwise(starts):
        running = [job for job in jobs if job.skip <= start]
        x = torch.cat(
            [x, *(inversion.x[start].expand(len(job.target), -1, -1, -1) for job in jobs if job.skip == start)]
        )
        run = reverse(
            _together([job.guidance for job in running]),
            x,
            inversion.timesteps[start:],
            Condition.cat([job.condition for job in running]),
            eta=inversion.eta,
            noise_maps=recorded(None if inversion.z is None else inversion.z[start:].expand(-1, len(x), -1, -1, -1)),
        )
        *_, last = islice(run, end - start)
        x = last.x_prev
    assert last is not None
    rows = torch.arange(len(x)).split([len(job.target) for job in jobs])
    done = {n: _selected(last, own) for n, own in zip(order, rows, strict=True)}
    return [_finished(plan, done[n]) for n, plan in enumerate(plans)]


def _selected(state: StepEnd, rows: Tensor) -> StepEnd:
    """A finished step with some of its rows."""
    condition = state.condition[rows]
    tensors = {each.name: value for each in fields(state) if isinstance(value := getattr(state, each.name), Tensor)}
    return replace(
        state, condition=condition, **{name: value[rows.to(value.device)] for name, value in tensors.items()}
    )


def _finished(plan: EditPlan, last: StepEnd) -> EditPlan:
    (batch,) = plan.batches
    job = batch.job
    done = _Done(**{each.name: getattr(job, each.name) for each in fields(job)}, last=last)
    return replace(plan, batches=[replace(batch, job=done)])


def _together(parts: Sequence[Guided]) -> Guided:
    """The guidance of all rows, one part after the other."""
    terms = []
    for same in zip(*(part.terms for part in parts), strict=True):
        conditions = [term.condition for term in same]
        condition = None if conditions[0] is None else Condition.cat(conditions)
        weights = [weight for term in same if not callable(term.weights) for weight in term.weights]
        terms.append(Term(same[0].name, condition, tuple(weights)))
    return replace(parts[0], terms=tuple(terms))


def _rows(plans: Sequence[EditPlan]) -> int:
    return sum(len(plan.prompts) for plan in plans)


def _shape(inverted: Inverted) -> Sequence[int]:
    return inverted.groups[0].inversion.x0.shape
