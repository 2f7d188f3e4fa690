"""Objects of other images: in options of a method, "fox: fox.png: fox, noto; ball: ball.png: ball", and as sources."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sfumato.errors import BadInput
from sfumato.files import printable
from sfumato.methods.job import Job
from sfumato.methods.objects import weights_of

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.core.prompt import Prompt
    from sfumato.images import Picture
    from sfumato.models.diffusion_model import DiffusionModel
    from sfumato.models.references import References
    from sfumato.shifts.energy.word import Word

PROPORTIONS = 0.1
"""Largest relative difference between the proportions of a reference image and of the edited one."""


@dataclass(frozen=True)
class Shown:
    """A reference image.

    Attributes:
        path: its file.
        prompt: its prompt.
    """

    path: str
    prompt: str


@dataclass(frozen=True)
class Taken:
    """An object of a reference image.

    Attributes:
        word: the word for it there.
        image: the reference image.
    """

    word: str
    image: Shown


def parse_taken(name: str, text: str) -> dict[str, Taken]:
    """Objects of other images, "WORD: FILE: PROMPT; WORD=WORD THERE: FILE: PROMPT", by word.

    Args:
        name: of the option, for messages.
        text: the option.

    Raises:
        BadInput: text of another form, or a word twice.
    """
    found: dict[str, Taken] = {}
    for part in (each for each in text.split(";") if each.strip()):
        parts = [each.strip() for each in part.split(":", 2)]
        if len(parts) < 3 or not all(parts):
            raise BadInput(
                f"{name} must be WORD: FILE: PROMPT OF THAT IMAGE; several separated by semicolons; not "
                f'"{part.strip()}".'
            )
        word, _, there = (each.strip() for each in parts[0].partition("="))
        if word in found:
            raise BadInput(f'{name} names "{word}" twice.')
        found[word] = Taken(there or word, Shown(parts[1], parts[2]))
    return found


def check_proportions(picture: Picture, path: str, size: tuple[int, int]) -> None:
    """Refuse a reference image whose proportions are not those of the edited image.

    Args:
        picture: the reference image, which is scaled to the size of the edited one.
        path: its file.
        size: height and width of the latents of the edited image.

    Raises:
        BadInput: their proportions differ by more than `PROPORTIONS`.
    """
    width, height = picture.size
    if abs(width * size[0] / (height * size[1]) - 1) > PROPORTIONS:
        raise BadInput(
            f"{printable(path)} has {width} x {height} pixels: crop it to the proportions of the edited image, "
            f"{size[1]} : {size[0]}."
        )


class OtherImages:
    """The reference images of a job, encoded; all of them are evaluated in one call.

    Args:
        job: the edit.
        pixels: every reference image as [1,3,h,w] in [-1,1].
    """

    def __init__(self, job: Job, pixels: Mapping[Shown, Tensor]) -> None:
        self.job, self.shown = job, list(pixels)
        self.references = _encoded(job, pixels) if pixels else None

    def word(self, name: str, taken: Taken) -> Word:
        """A word of the edit whose source is an object of a reference image."""
        from sfumato.models.layout import word_layers
        from sfumato.shifts.energy.word import Word

        assert self.references is not None
        layers, grid = word_layers(self.job.network.unet, self.job.size)
        there = weights_of(self.references.condition, taken.word)
        row = self.shown.index(taken.image)
        return Word(layers, grid, weights_of(self.job.condition, name), there, self.references, row)

    def prompt(self, shown: Shown) -> Prompt:
        """The prompt of a reference image, with the positions of its words."""
        assert self.references is not None
        return self.references.condition.prompts[self.shown.index(shown)]


def _encoded(job: Job, pixels: Mapping[Shown, Tensor]) -> References:
    """The reference images, scaled to the size of the edited ones."""
    import torch
    from torch.nn import functional as F

    from sfumato.models.references import References

    network = job.network
    size = job.size[0] * network.factor, job.size[1] * network.factor
    resized = [
        each if tuple(each.shape[-2:]) == size
        else F.interpolate(each, size, mode="bicubic", antialias=True, align_corners=False).clamp(-1, 1)
        for each in pixels.values()
    ]  # fmt: skip
    with torch.no_grad():
        x0 = network.encode(torch.cat(resized).to(network.device)).float()
    condition = network.condition([each.prompt for each in pixels], size=size)
    return References.noised(x0, condition, network.schedule, job.inversion.timesteps)


def read_prompts(network: DiffusionModel, prompts: Sequence[str]) -> Sequence[Prompt]:
    """The prompts of reference images as the model splits them.

    Raises:
        BadInput: a prompt that the model cannot read, or text encoders that split it differently.
    """
    from sfumato.models.text import read

    for text_encoder in network.text_encoders:
        text_encoder.tokenize(prompts)
    found = read(network.text_encoders, prompts) if prompts else ()
    if prompts and not found:
        raise BadInput("The text encoders of this model split the prompts differently, so words have no positions.")
    return found
