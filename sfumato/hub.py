"""The Hugging Face hub: asked only for what the user named, and never for pickles."""

import re
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled

from sfumato.errors import BadInput, first_line

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def is_hub_id(name: str) -> bool:
    """Whether it looks like "org/name"."""
    return _HUB_ID.fullmatch(name) is not None


def from_hub(hub_id: str, wanted: Sequence[str], what: str, unwanted: Sequence[str] = ()) -> Path:
    """The local copy of a repository of the hub.

    Args:
        hub_id: that is no folder here.
        wanted: patterns of the files to fetch.
        what: what messages call it, "model" or "network".
        unwanted: patterns of those of them to leave out.

    Raises:
        BadInput: there is none, or it cannot be reached.
    """
    try:
        return Path(snapshot_download(hub_id, allow_patterns=list(wanted), ignore_patterns=list(unwanted)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        raise BadInput(
            f"There is no folder {hub_id}, and the hub did not give a {what} of that name ({first_line(error)}); "
            "check the name, or give a local folder."
        ) from error
