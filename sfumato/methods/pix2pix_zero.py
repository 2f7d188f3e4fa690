"""pix2pix-zero: a direction between two words moves the condition, the source's attention maps guide the latent.

Parmar, Singh, Zhang, Li, Lu, Zhu: "Zero-shot Image-to-Image Translation", SIGGRAPH 2023, arXiv 2302.03027.
Implemented: directions from banks of sentences (section 3.1), regularised DDIM inversion (3.2), cross-attention
guidance (3.3, eq. 6) with the gradient through the condition of the edit; over every inversion. The condition of the
edit is the source prompt's plus the direction. Without words, banks or a saved direction the target prompt says which:
what the two prompts share at their beginnings and ends is left out, and the built-in sentences
(`sfumato.shifts.text_direction`) are made of what is left of each. Where nothing is left of one, both keep the shared
word behind it, or else the one before: from "a cat" to "a red cat" leads "cat" to "red cat". The same prompt twice is
the direction zero.

With `compat="official"` the noise is rolled by zero too and coarse levels count less, and the guidance follows the maps
under the negative prompt, as in the public code, which also leaves out the first and the last step of the inversion:
here none is.

Not implemented: captioning the picture (give the prompt), the source caption as negative prompt (give it as such),
conditional GAN distillation (3.4).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from sfumato.core.condition import Condition
from sfumato.core.prompt import Prompt
from sfumato.core.rows import NEGATIVE
from sfumato.core.shift import Shift
from sfumato.errors import BadInput
from sfumato.files import printable
from sfumato.methods.inversions import EVERY, InversionParams
from sfumato.methods.job import Job
from sfumato.methods.params import PromptPair, option
from sfumato.methods.registry import method
from sfumato.models.diffusion_model import DiffusionModel
from sfumato.shifts.attention_guidance import FollowAttention
from sfumato.shifts.banks import check_bank, read_bank, templated
from sfumato.shifts.text_direction import MoveCondition, TextDirection, text_direction

Phrases = tuple[str, str]
"""What is replaced, and by what."""


@dataclass(frozen=True)
class Pix2PixZeroParams(InversionParams):
    """The paper's settings; after other inversions theirs."""

    needs_text: ClassVar[bool] = True

    inversion: str = option("regularised", "how the picture is inverted", stage="invert", choices=EVERY)
    steps: int = option(
        50, "number of steps of the run", stage="invert", low=1, high=1000, after={"edit-friendly": 100}
    )
    eta: float = option(
        0.0,
        "share of the DDPM noise in every step; 0 for ddim and regularised, above 0 for the others",
        stage="invert",
        low=0,
        high=1,
        after={"edit-friendly": 1.0, "native-ddpm": 1.0},
    )
    source_guidance_scale: float = option(1.0, "guidance scale of the source prompt", stage="invert", low=0, high=100)
    skip: int = option(
        0,
        "steps at the noisy end that the edit leaves out; more keeps more of the picture",
        stage="edit",
        low=0,
        high=999,
        after={"edit-friendly": 12},
    )
    guidance_scale: float = option(5.0, "guidance scale of the edit", stage="edit", low=0, high=100)
    cross_attention_guidance_amount: float = option(
        0.1,
        "step size of the gradient that pulls the cross-attention maps to the source's; 0: none",
        stage="edit",
        low=0,
        high=1e6,
    )
    source_word: str = option(
        "",
        "what is replaced; none: where the prompts differ. Beside words, banks or a file the target prompt moves "
        "nothing: it says what regions and metrics are about",
        stage="edit",
    )
    target_word: str = option("", "what replaces it", stage="edit")
    source_bank: str = option("", "file of sentences about what is replaced, one a line", stage="edit")
    target_bank: str = option("", "file of sentences about what replaces it", stage="edit")
    direction_file: str = option("", "file of a direction that was saved before", stage="edit")
    scale: float = option(1.0, "factor of the direction", stage="edit", low=-100, high=100)
    compat: str = option(
        "none",
        "official: the flaws of the public code (rolls by zero, gradient through the negative prompt), for comparison",
        stage="invert",
        choices=("none", "official"),
    )

    def check(self) -> None:
        """Refuse values out of range, half a pair and two directions. Raises BadInput."""
        super().check()
        for before, after in (("source_word", "target_word"), ("source_bank", "target_bank")):
            if bool(getattr(self, before).strip()) != bool(getattr(self, after).strip()):
                raise BadInput(f"Give {before} and {after} together: a direction leads from one to the other.")
        if sum(map(bool, (self.source_word.strip(), self.source_bank, self.direction_file))) > 1:
            raise BadInput("Give the direction once: by words, by banks or by a file of a direction.")

    @cached_property
    def saved(self) -> TextDirection | None:
        """The direction of the file, which is read once. Raises BadInput."""
        return TextDirection.load(self.direction_file) if self.direction_file else None

    @cached_property
    def banks(self) -> tuple[list[str], ...]:
        """The sentences of the source bank and of the target bank, which are read once. Raises BadInput."""
        return tuple(read_bank(path) for path in (self.source_bank, self.target_bank) if path)

    def check_files(self) -> None:
        """Refuse banks and files of directions that hold none. Raises BadInput."""
        _ = self.saved, self.banks

    def uses_negative(self, guidance_scale: float) -> bool:
        """The public code's guidance follows the maps under the negative prompt."""
        return super().uses_negative(guidance_scale) or (
            self.compat == "official" and self.cross_attention_guidance_amount > 0
        )

    @property
    def from_prompts(self) -> bool:
        """Whether the prompts say which direction."""
        return not (self.source_word.strip() or self.source_bank or self.direction_file)

    @property
    def keeps_prompt(self) -> bool:
        """A target prompt is needed only where it says which direction."""
        return not self.from_prompts

    def check_run(self, network: DiffusionModel, size: tuple[int, int], prompts: Sequence[PromptPair]) -> None:
        """Refuse a direction of another model, and sentences or prompts that it cannot read. Raises BadInput."""
        if self.saved is not None:
            self.saved.check_model(network.fingerprint())
        for path, bank in zip((self.source_bank, self.target_bank), self.banks, strict=False):
            check_bank(network.text_encoders, bank, f"The bank {printable(path)}")
        for word in dict.fromkeys(self._words(prompts)):
            check_bank(network.text_encoders, templated(word), f'The built-in bank of "{word[:40]}"')

    def _words(self, prompts: Sequence[PromptPair]) -> list[str]:
        """What the built-in sentences are made of. Raises BadInput where the prompts shall say it and cannot."""
        if not self.from_prompts:
            return [word for word in (self.source_word, self.target_word) if word.strip()]
        if not prompts:
            raise BadInput("The two text encoders of this model split prompts differently: give words or banks.")
        if not all(prompt.words for pair in prompts for prompt in pair):
            raise BadInput("A prompt has no words to find a direction from: give words, banks or a direction.")
        return [word for pair in prompts for word in differing(*pair) if word]


def differing(source: Prompt, target: Prompt) -> Phrases:
    """What is left of two prompts without their common beginning and end; see the head of this file."""
    before, after = source.words, target.words
    equal = [a.casefold() == b.casefold() for a, b in zip(before, after, strict=False)]
    first = equal.index(False) if False in equal else len(equal)
    shortest = min(len(before), len(after))
    last = 0
    while last < shortest - first and before[-1 - last].casefold() == after[-1 - last].casefold():
        last += 1
    if first == len(before) == len(after):
        return ("", "")
    if first + last == shortest:
        first, last = (first, last - 1) if last else (first - 1, 0)
    return " ".join(before[first : len(before) - last]), " ".join(after[first : len(after) - last])


def directions(
    network: DiffusionModel, source: Condition, target: Condition, params: Pix2PixZeroParams
) -> list[TextDirection]:
    """The direction of every row, each computed once. Raises BadInput for a saved one of another model."""
    rows = len(source)
    if params.saved is not None:
        params.saved.check_model(network.fingerprint())
        return [params.saved] * rows
    if params.banks:
        return [text_direction(network, *params.banks)] * rows
    if params.from_prompts:
        phrases = [differing(a, b) for a, b in zip(source.prompts, target.prompts, strict=True)]
    else:
        phrases = [(params.source_word, params.target_word)] * rows
    found = {pair: text_direction(network, *map(templated, pair)) for pair in dict.fromkeys(phrases)}
    return [found[pair] for pair in phrases]


@method(
    "pix2pix-zero",
    summary="direction between two words (SIGGRAPH 2023): regularised inversion, cross-attention guidance",
    params=Pix2PixZeroParams,
    inversion="regularised",
    accepts=EVERY,
    under_source=True,
    section="pix2pix-zero",
    handles=("condition", "latent"),
)
def shifts(job: Job, params: Pix2PixZeroParams) -> list[Shift]:
    """The source prompt's condition moved by the direction, and the latent guided."""
    moved = MoveCondition(directions(job.network, job.source, job.target, params), params.scale)
    if not params.cross_attention_guidance_amount:
        return [moved]
    if params.compat != "official":
        return [moved, FollowAttention(params.cross_attention_guidance_amount)]
    # the public code follows the negative half, whose heads are averaged with the other half's
    return [
        moved,
        FollowAttention(params.cross_attention_guidance_amount / 2, NEGATIVE, job.guidance.condition_of(NEGATIVE)),
    ]
