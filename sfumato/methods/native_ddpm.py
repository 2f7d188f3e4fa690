"""Native DDPM inversion, the baseline of the edit-friendly paper (arXiv 2304.06140, section 2.1).

The noise maps are those of the DDPM generative process. They reconstruct the image, but an edit under another prompt
does not preserve its structure. The method is included for comparison.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sfumato.editing.job import Job
from sfumato.editing.registry import method
from sfumato.methods.edit_friendly import EditFriendlyParams

if TYPE_CHECKING:
    from sfumato.core.shift import Shift


@method(
    "native-ddpm",
    summary="native DDPM noise maps: exact reconstruction, edits lose the structure; for comparison",
    params=EditFriendlyParams,
    inversion="native-ddpm",
    section="edit",
    handles=("condition", "noise map"),
)
def shifts(job: Job, params: EditFriendlyParams) -> list[Shift]:
    """No shifts: the edit is the replay under the target prompt."""
    return []
