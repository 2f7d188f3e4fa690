"""Reference images: parsing of options such as "fox: fox.png: fox, noto; ball: ball.png: ball", and their encoding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sfumato.editing.job import Job
from sfumato.errors import BadInput
from sfumato.files import printable
from sfumato.options.objects import key_of, weights_of
from sfumato.options.prompt_words import contains

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.core.prompt import Prompt
    from sfumato.models.diffusion_model import DiffusionModel
    from sfumato.models.references import References
    from sfumato.shifts.energy.word import Word

PROPORTIONS = 0.1
"""Maximum relative difference between the aspect ratios of a reference image and of the edited image."""


@dataclass(frozen=True)
class ReferenceImage:
    """A reference image.

    Attributes:
        path: file of the image.
        prompt: prompt of the image.
    """

    path: str
    prompt: str


@dataclass(frozen=True)
class ReferenceObject:
    """An object of a reference image.

    Attributes:
        word: word of the reference image's prompt for the object.
        image: the reference image.
    """

    word: str
    image: ReferenceImage


def parse_reference_objects(name: str, text: str) -> dict[str, ReferenceObject]:
    """Parse objects of reference images, "WORD: FILE: PROMPT; WORD=WORD THERE: FILE: PROMPT".

    WORD is a word of the target prompt, WORD THERE the word of PROMPT for the object if that differs.

    Args:
        name: name of the option in error messages.
        text: value of the option.

    Returns:
        The objects by word of the target prompt; words as in `key_of`.

    Raises:
        BadInput: the text has another form, a word occurs twice, or the prompt of an image lacks the object's word.
    """
    found: dict[str, ReferenceObject] = {}
    for part in (each for each in text.split(";") if each.strip()):
        parts = [each.strip() for each in part.split(":", 2)]
        if len(parts) < 3 or not all(parts):
            raise BadInput(
                f"{name} must be WORD: FILE: PROMPT OF THAT IMAGE; several separated by semicolons; not "
                f'"{part.strip()}".'
            )
        word, _, there = map(key_of, parts[0].partition("="))
        if word in found:
            raise BadInput(f'{name} names "{word}" twice.')
        taken = ReferenceObject(there or word, ReferenceImage(parts[1], parts[2]))
        if not contains(taken.image.prompt, taken.word):
            raise BadInput(
                f'The word "{taken.word}" of {name} is not in the prompt of its image, "{taken.image.prompt:.80}": '
                "give WORD=WORD THERE if the object has another name there."
            )
        found[word] = taken
    return found


def check_proportions(
    pixels: tuple[int, int], path: str, size: tuple[int, int], multiple: int, otherwise: str = ""
) -> None:
    """Check that a reference image has the aspect ratio of the edited image.

    Args:
        pixels: width and height of the reference image, which is scaled to the size of the edited image.
        path: file of the reference image.
        size: height and width of the latents of the edited image, which may be padded.
        multiple: the latents are padded to multiples of this number (`DiffusionModel.latent_multiple`).
        otherwise: an alternative to cropping, for the message.

    Raises:
        BadInput: the aspect ratio differs by more than `PROPORTIONS` from all that the edited image may have.
    """
    width, height = pixels
    least, most = (size[1] - multiple) / size[0], size[1] / max(size[0] - multiple, 1)
    if not least * (1 - PROPORTIONS) <= width / height <= most * (1 + PROPORTIONS):
        raise BadInput(
            f"{printable(path)} has {width} x {height} pixels: crop it to the proportions of the edited image, "
            f"{size[1]} : {size[0]}{otherwise}."
        )


class OtherImages:
    """The encoded reference images of a job; the network evaluates all of them in one call.

    Args:
        job: the input of the method.
        pixels: the reference images, each [1,3,h,w] in [-1,1].
    """

    def __init__(self, job: Job, pixels: Mapping[ReferenceImage, Tensor]) -> None:
        self.job, self.shown = job, list(pixels)
        self.references = _encoded(job, pixels) if pixels else None

    def word(self, name: str, taken: ReferenceObject) -> Word:
        """Return a word of the target prompt whose source is an object of a reference image."""
        from sfumato.models.layout import word_layers
        from sfumato.shifts.energy.word import Word

        assert self.references is not None
        layers, grid = word_layers(self.job.network.unet, self.job.size)
        there = weights_of(self.references.condition, taken.word)
        row = self.shown.index(taken.image)
        return Word(layers, grid, weights_of(self.job.condition, name), there, self.references, row, name)

    def prompt(self, shown: ReferenceImage) -> Prompt:
        """Return the tokenised prompt of a reference image."""
        assert self.references is not None
        return self.references.condition.prompts[self.shown.index(shown)]


def _encoded(job: Job, pixels: Mapping[ReferenceImage, Tensor]) -> References:
    """Encode the reference images after scaling them to the size of the edited images.

    Raises:
        BadInput: the network takes maps or class labels, which the reference images do not have.
    """
    import torch
    from torch.nn import functional as F

    from sfumato.models.checks import check_prompts_suffice
    from sfumato.models.references import References

    network = job.network
    check_prompts_suffice(network, "a reference image")
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
    """Tokenise the prompts of reference images.

    Raises:
        BadInput: the model cannot tokenise a prompt, or its text encoders split the prompts differently.
    """
    from sfumato.models.text import read

    for text_encoder in network.text_encoders:
        text_encoder.tokenize(prompts)
    found = read(network.text_encoders, prompts) if prompts else ()
    if prompts and not found:
        raise BadInput("The text encoders of this model split the prompts differently, so words have no positions.")
    return found
