"""Replay: the reverse process with the noise maps of an inversion."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from sfumato.core.condition import Condition
from sfumato.core.guidance import Guided
from sfumato.core.loop import recorded, reverse
from sfumato.core.schedule import FINISHED
from sfumato.core.shift import Shift
from sfumato.core.state import StepEnd
from sfumato.inversion.artifact import Inversion
from sfumato.models.with_source import WithSource, model_of


def replay(
    guided: Guided,
    inversion: Inversion,
    condition: Condition,
    *,
    skip: int = 0,
    shifts: Sequence[Shift] = (),
    path: Sequence[int] = (),
) -> Iterator[StepEnd]:
    """Replay an inversion from x_{T-skip} to x_0 with its recorded noise maps, yielding every step.

    With the source prompt and its guidance scale this reconstructs the images; with another prompt it edits them. If
    `path` repeats a step, the repetitions use fresh noise.

    Args:
        guided: the network with its guidance, one row per image; the result of `with_source` for shifts that read the
            source.
        inversion: the inversion, on the device of the network.
        condition: condition of the prompt, one row per image.
        skip: number of first (noisiest) steps to skip; 0 replays all steps.
        shifts: shifts to apply, in order.
        path: path over the remaining steps, see `sfumato.core.path`; by default each step once.

    Raises:
        BadInput, NonFinite: as `sfumato.core.loop.reverse`.
    """
    maps = None if inversion.z is None else inversion.z[skip:]
    yield from reverse(
        guided,
        inversion.x[skip],
        inversion.timesteps[skip:],
        condition,
        eta=inversion.eta,
        noise_maps=recorded(maps, inversion.seeds),
        shifts=shifts,
        path=path,
        seeds=inversion.seeds,
        source=dict(zip([*inversion.timesteps, FINISHED], inversion.x, strict=True)),
    )


def with_source(guided: Guided, inversion: Inversion, source: Condition, *, exact: bool = False) -> Guided:
    """Extend a guided network by evaluations of the source image, for shifts that use its features or attention maps.

    Args:
        guided: the network with the target's guidance, one row per image.
        inversion: the inversion, on the device of the network; its latents are those of the source.
        source: condition of the source prompt, one row per image.
        exact: evaluate the source one step at a time. An edit with the source prompt and without guidance is then
            bit-identical to one that does not read the source.
    """
    latents = dict(zip(inversion.timesteps, inversion.x[:-1], strict=True))
    return replace(guided, network=WithSource(model_of(guided), latents, source, exact))
