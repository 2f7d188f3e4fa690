"""Native DDPM inversion, the paper's own counter-example (arXiv 2304.06140, section 2.1).

The noise maps follow the generative process itself. They reconstruct, but another prompt loses the structure of the
picture: the method is here to be compared with.
"""

from sfumato.core.shift import Shift
from sfumato.methods.edit_friendly import EditFriendlyParams
from sfumato.methods.job import Job
from sfumato.methods.registry import method


@method(
    "native-ddpm",
    summary="native DDPM noise maps: reconstructs, loses structure when edited; for comparison",
    params=EditFriendlyParams,
    inversion="native-ddpm",
    section="edit",
    handles=("condition", "noise map"),
)
def shifts(job: Job, params: EditFriendlyParams) -> list[Shift]:
    """None: the replay under the target prompt is the edit."""
    return []
