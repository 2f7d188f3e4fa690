"""The reverse process along a recorded inversion."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from sfumato.core.guidance import Guided
from sfumato.core.loop import recorded, reverse
from sfumato.core.shift import Shift
from sfumato.core.state import Denoiser, StepState
from sfumato.inversion.artifact import Inversion
from sfumato.models.beside import Beside
from sfumato.models.source import Source


def replay(
    guided: Guided, inversion: Inversion, condition: Any, *, skip: int = 0, shifts: Sequence[Shift] = ()
) -> Iterator[StepState]:
    """Yield the steps from x_{T-skip} to x_0 with the recorded noise maps.

    Under the source prompt with its guidance this is the reconstruction, under another one the edit.

    Args:
        guided: the network and its guidance, one row per image.
        inversion: on the network's device.
        condition: the prompt to replay under, one row per image.
        skip: steps at the noisy end that are left out; 0 replays all of them.
        shifts: what else moves.
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
    )


def replay_beside(
    guided: Guided,
    inversion: Inversion,
    source: Any,
    condition: Any,
    *,
    skip: int = 0,
    shifts: Sequence[Shift] = (),
    exact: bool = False,
) -> Iterator[StepState]:
    """`replay` for shifts that carry something from the source; they and all others see the target's rows alone.

    Args:
        guided: the network and the target's guidance, one row per image.
        inversion: on the network's device; its latents are the source's.
        source: the prompt of the inversion, one row per image.
        condition: the prompt to replay under, one row per image.
        skip: steps at the noisy end that are left out.
        shifts: what moves.
        exact: see `Source`; the source carried into itself then leaves every bit as it was where guidance is off.
    """
    beside = Beside(guided.network, source_along(guided.network, inversion, source, exact=exact))
    guided = replace(guided, network=beside)
    yield from replay(guided, inversion, condition, skip=skip, shifts=shifts)


def source_along(network: Denoiser, inversion: Inversion, condition: Any, *, exact: bool = False) -> Source:
    """The source of an inversion, on its recorded latents."""
    return Source(network, dict(zip(inversion.timesteps, inversion.x[:-1], strict=True)), condition, exact)
