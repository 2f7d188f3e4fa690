"""Check that a resumed run has the settings and frozen networks that its weights were trained with.

The state of a checkpoint stores them by name under `bound_to`: settings that affect the output of the networks but not
the shapes of their weights (heads, groups, prediction type, noise schedule), and fingerprints of the frozen networks.
If they differ, BadInput is raised before training resumes. Values that are missing in a checkpoint of an older version
are taken from the recipe with a warning, and saved in the next checkpoint.
"""

import hashlib
import logging
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from sfumato.errors import BadInput
from sfumato.files import printable
from sfumato.train.checkpoint import newest_state

_LOG = logging.getLogger(__name__)
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")
#: Digits of a fingerprint shown in messages.
_SHOWN = 20


def weights_fingerprint(weights: Iterable[tuple[str, Tensor]]) -> str:
    """SHA-256 (hexadecimal) of named tensors, converted to float32; independent of their order."""
    digest = hashlib.sha256()
    for name, value in sorted(weights, key=lambda pair: pair[0]):
        digest.update(f"{name} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()


def settings_of(shape: Any, table: str, *names: str) -> dict[str, str]:
    """Settings of a table of the recipe as entries of `bound_to`, such as {"network.groups": "16"}.

    Args:
        shape: the dataclass of the table.
        table: its name in the recipe.
        names: the settings.
    """
    return {f"{table}.{name}": str(getattr(shape, name)) for name in names}


def bound_before(folder: Path) -> dict[str, str] | None:
    """Read `bound_to` from the newest checkpoint of the run in `folder`; None without a checkpoint."""
    state = newest_state(folder / "checkpoints")
    return None if state is None else state.get("bound_to", {})


def refuse_another_kind(folder: Path, kind: str, state: Mapping[str, Any] | None = None) -> None:
    """Raise BadInput if a folder contains a run of another kind.

    Args:
        folder: folder of the run.
        kind: kind of the recipe.
        state: state of the newest checkpoint; None to read it here.

    Raises:
        BadInput: the checkpoints are of another kind.
    """
    state = newest_state(folder / "checkpoints") if state is None else state
    if state is not None and state["kind"] != kind:
        raise BadInput(f"{folder} contains a run of kind '{state['kind']}'; give this run its own folder.")


def refuse_changes(folder: Path, before: Mapping[str, str] | None, now: Mapping[str, str]) -> None:
    """Raise BadInput if the weights of the checkpoint were trained with other settings or frozen networks.

    Args:
        folder: folder of the run, for the error message.
        before: `bound_to` of the newest checkpoint; None for a new run.
        now: `bound_to` of the recipe; names that the checkpoint does not contain are accepted.

    Raises:
        BadInput: values have changed; the message lists them.
    """
    shared = {name: (before[name], value) for name, value in now.items() if before and name in before}
    changed = [f"{name} ({_shown(old)}, now {_shown(new)})" for name, (old, new) in shared.items() if old != new]
    if changed:
        raise BadInput(
            f"the weights in {folder} were trained with another {' and another '.join(changed)}; "
            "resume with the old ones, or give this run its own folder."
        )


def _shown(value: str) -> str:
    """A value for messages: the first digits of a fingerprint, a setting completely."""
    return value[:_SHOWN] if _FINGERPRINT.fullmatch(value) else printable(value)


def warn_of_gaps(path: Path, before: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Log a warning if the checkpoint at `path` does not contain all names of `now`."""
    if missing := [name for name in now if name not in before]:
        _LOG.warning(
            "the checkpoint %s is of an older version and does not record the %s that it was trained with: "
            "the values of the recipe are assumed.", path, ", ".join(missing),
        )  # fmt: skip
