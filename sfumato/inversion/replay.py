"""The reverse process along a recorded inversion."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from sfumato.core.condition import Condition
from sfumato.core.guidance import Guided
from sfumato.core.loop import recorded, reverse
from sfumato.core.schedule import FINISHED
from sfumato.core.shift import Shift
from sfumato.core.state import StepEnd
from sfumato.inversion.artifact import Inversion
from sfumato.models.beside import Beside, model_of


def replay(
    guided: Guided,
    inversion: Inversion,
    condition: Condition,
    *,
    skip: int = 0,
    shifts: Sequence[Shift] = (),
    path: Sequence[int] = (),
) -> Iterator[StepEnd]:
    """Yield the steps from x_{T-skip} to x_0 with the recorded noise maps.

    Under the source prompt with its guidance this is the reconstruction, under another one the edit.

    Args:
        guided: the network and its guidance, one row per image; with the source `beside` it for shifts that read that.
        inversion: on the network's device.
        condition: the prompt to replay under, one row per image.
        skip: steps at the noisy end that are left out; 0 replays all of them.
        shifts: what else moves.
        path: see `sfumato.core.path`; of the steps that are left.
    """
    maps = None if inversion.z is None else inversion.z[skip:]
    yield from reverse(
        guided,
        inversion.x[skip],
        inversion.timesteps[skip:],
        condition,
        eta=inversion.eta,
        noise_maps=recorded(maps),
        shifts=shifts,
        path=path,
        seeds=inversion.seeds,
        source=dict(zip([*inversion.timesteps, FINISHED], inversion.x, strict=True)),
    )


def beside(guided: Guided, inversion: Inversion, source: Condition, *, exact: bool = False) -> Guided:
    """The same guidance with the source beside the target, for shifts that carry something from it.

    Args:
        guided: the network and the target's guidance, one row per image.
        inversion: on the network's device; its latents are the source's.
        source: the prompt of the inversion, one row per image.
        exact: evaluate the source one step at a time: carried into itself it then leaves every bit as it was, where
            guidance is off.
    """
    latents = dict(zip(inversion.timesteps, inversion.x[:-1], strict=True))
    return replace(guided, network=Beside(model_of(guided), latents, source, exact))
