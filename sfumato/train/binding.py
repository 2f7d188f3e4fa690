"""What the weights of a run mean nothing without: a run goes on with the same, or is refused before any work.

A checkpoint's state has it by name under `bound_to`: settings that leave the shapes of the weights alone but not their
meaning (heads, groups, prediction, noise schedule), and fingerprints of the frozen networks. What a checkpoint of an
older version does not have is taken to be what the recipe says, with a warning, and stands in the next checkpoint.
"""

import hashlib
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from sfumato.errors import BadInput
from sfumato.train.checkpoint import newest_state

_LOG = logging.getLogger(__name__)
#: Characters of a value that a sentence shows: all of a setting, enough of a fingerprint.
_SHOWN = 20


def weights_fingerprint(weights: Iterable[tuple[str, Tensor]]) -> str:
    """SHA-256, in hexadecimal, of named tensors, whatever their order, as float32."""
    digest = hashlib.sha256()
    for name, value in sorted(weights, key=lambda pair: pair[0]):
        digest.update(f"{name} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()


def settings_of(shape: Any, table: str, *names: str) -> dict[str, str]:
    """Fields of a table of the recipe as entries of `bound_to`, such as {"network.groups": "16"}."""
    return {f"{table}.{name}": str(getattr(shape, name)) for name in names}


def bound_before(folder: Path) -> dict[str, str] | None:
    """What the newest checkpoint of the run in `folder` is bound to; None where there is no checkpoint."""
    state = newest_state(folder / "checkpoints")
    return None if state is None else state.get("bound_to", {})


def refuse_another_kind(folder: Path, kind: str, state: Mapping[str, Any] | None = None) -> None:
    """Refuse a folder with a run of another kind; `state` is its newest checkpoint's, read here by default.

    Raises:
        BadInput: so it is.
    """
    state = newest_state(folder / "checkpoints") if state is None else state
    if state is not None and state["kind"] != kind:
        raise BadInput(f"{folder} holds a run of kind '{state['kind']}'; give this one its own folder.")


def refuse_changes(folder: Path, before: Mapping[str, str] | None, now: Mapping[str, str]) -> None:
    """Refuse to go on with weights that meant something else.

    Args:
        folder: the run's, for the sentence.
        before: what its newest checkpoint is bound to, None for a new run.
        now: what the recipe would bind it to; names that the checkpoint does not have are accepted.

    Raises:
        BadInput: a value has changed; names each that has.
    """
    shared = {name: (before[name], value) for name, value in now.items() if before and name in before}
    changed = [f"{name} ({old[:_SHOWN]}, now {new[:_SHOWN]})" for name, (old, new) in shared.items() if old != new]
    if changed:
        raise BadInput(
            f"the weights in {folder} were trained with another {' and another '.join(changed)}; "
            "go on with what they know, or give this run its own folder."
        )


def warn_of_gaps(path: Path, before: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Say what an older checkpoint at `path` does not tell, and how it is taken."""
    if missing := [name for name in now if name not in before]:
        _LOG.warning(
            "the checkpoint %s is of an older version and does not say with which %s it was trained: "
            "it is taken to be the recipe's.", path, ", ".join(missing),
        )  # fmt: skip
