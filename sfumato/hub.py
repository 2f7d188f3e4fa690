"""Downloads from the Hugging Face Hub: only repositories that the user names, and never pickle files."""

from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled

from sfumato.errors import BadInput, first_line


def from_hub(hub_id: str, wanted: Sequence[str], what: str, unwanted: Sequence[str] = ()) -> Path:
    """Download a repository of the Hugging Face Hub, or reuse its cached copy.

    Args:
        hub_id: "org/name", which is not a local folder.
        wanted: patterns of the files to download.
        what: kind of repository in error messages, "model" or "network".
        unwanted: patterns of the files to exclude from these.

    Returns:
        the local folder.

    Raises:
        BadInput: the repository does not exist, or the Hub cannot be reached.
    """
    try:
        return Path(snapshot_download(hub_id, allow_patterns=list(wanted), ignore_patterns=list(unwanted)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        raise BadInput(
            f"There is no folder {hub_id}, and no {what} of that name could be loaded from the Hugging Face Hub "
            f"({first_line(error)}); check the name, or give a local folder."
        ) from error
