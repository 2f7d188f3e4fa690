"""pix2pix-zero: add the direction between two words to the condition, with cross-attention guidance to the source.

Parmar, Singh, Zhang, Li, Lu, Zhu: "Zero-shot Image-to-Image Translation", SIGGRAPH 2023, arXiv 2302.03027.
Implemented: directions from banks of sentences (section 3.1), regularised DDIM inversion (3.2), cross-attention
guidance (3.3, eq. 6) with the gradient through the evaluation under the condition of the edit. The method can be
combined with any inversion that stores latents (`EVERY`).

The condition of the edit is that of the source prompt plus the direction. If no words, banks or saved direction are
given, the direction is derived from the two prompts. Their common beginning and end are removed, and the remaining
words of each are inserted into the built-in sentences (`sfumato.shifts.banks`). If no words of one prompt remain, both
keep the common word after the difference or, if there is none, the one before it: "a cat" and "a red cat" give the
direction from "cat" to "red cat". Two equal prompts give the direction zero.

`compat="official"` reproduces the public code of October 2024, for comparison, if `negative_prompt` is the source
prompt. This includes its inversion, which treats x_0 as a latent one stride above and runs N - 2 of the N steps without
a limit of the gradient steps (`sfumato.inversion.regularised_official`). It also includes its guidance, in which the
conditional and the negative prediction each have their own x_t, updated by the gradient through their own maps, and the
run continues from the x_t of the negative prediction (`published_guidance`). The step size is that of the public code,
whose loss is the mean over both predictions: an amount of 0.1 changes each x_t by 0.05 times its gradient. Without
`compat`, x_t changes by 0.1 times the gradient.

Not implemented: captioning of the image (give the source prompt), the source caption as negative prompt (give it as
`negative_prompt`), conditional GAN distillation (3.4).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from sfumato.core.prompt import Prompt
from sfumato.editing.job import Job
from sfumato.editing.registry import method
from sfumato.errors import BadInput
from sfumato.files import printable
from sfumato.formats import TEXT_DIRECTION
from sfumato.options.inversions import EVERY, DeterministicParams
from sfumato.options.option import option
from sfumato.options.params import PromptPair

if TYPE_CHECKING:
    from sfumato.core.condition import Condition
    from sfumato.core.shift import Shift
    from sfumato.models.diffusion_model import DiffusionModel
    from sfumato.shifts.text_direction import TextDirection

Phrases = tuple[str, str]
"""(words to replace, replacement)."""
Bank = tuple[str, ...]
"""The sentences of a bank."""


@dataclass(frozen=True)
class Pix2PixZeroParams(DeterministicParams):
    """The paper's settings; for other inversions, the common settings for these."""

    needs_text: ClassVar[bool] = True

    inversion: str = option("regularised", "name of the inversion", stage="invert", choices=EVERY)
    guidance_scale: float = option(5.0, "guidance scale of the edit", stage="edit", low=0, high=100)
    cross_attention_guidance_amount: float = option(
        0.1,
        "lambda of eq. 6: step size of the gradient towards the source's cross-attention maps; 0 turns it off",
        stage="edit",
        low=0,
        high=1e6,
    )
    source_word: str = option(
        "",
        "words to replace; by default those that differ between the prompts. With words, banks or a direction file, "
        "the target prompt is used for regions and metrics only",
        stage="edit",
    )
    target_word: str = option("", "words that replace them", stage="edit")
    source_bank: str = option("", "text file of sentences about what is replaced, one per line", stage="edit")
    target_bank: str = option("", "text file of sentences about the replacement, one per line", stage="edit")
    direction_file: str = option("", "file of a saved direction, from `sfumato directions text`", stage="edit")
    scale: float = option(1.0, "factor of the direction", stage="edit", low=-100, high=100)
    compat: str = option(
        "none",
        "official reproduces the public code, for comparison: N - 2 inversion steps, each half of the guidance pair "
        "moved separately",
        stage="invert",
        choices=("none", "official"),
    )

    def check(self) -> None:
        """Check value ranges, and that at most one complete kind of direction is given. Raises BadInput."""
        super().check()
        for before, after in (("source_word", "target_word"), ("source_bank", "target_bank")):
            if bool(getattr(self, before).strip()) != bool(getattr(self, after).strip()):
                raise BadInput(f"Give {before} and {after} together: a direction leads from one to the other.")
        if sum(map(bool, (self.source_word.strip(), self.source_bank, self.direction_file))) > 1:
            raise BadInput("Give the direction once: by words, by banks or by a file of a direction.")
        if self.compat == "official" and self.inversion == "regularised":
            if self.steps < 3:
                raise BadInput(
                    f"compat official leaves out 2 inversion steps: steps must be at least 3, not {self.steps}."
                )
            if self.exact:
                raise BadInput("The public code has no exact replay: leave out exact, or compat.")

    @cached_property
    def saved(self) -> TextDirection | None:
        """The direction from `direction_file`, read once; None if no file is given. Raises BadInput."""
        from sfumato.shifts.text_direction import TextDirection

        return TextDirection.load(self.direction_file) if self.direction_file else None

    @cached_property
    def banks(self) -> tuple[list[str], ...]:
        """The sentences of the source bank and of the target bank, read once; () without banks. Raises BadInput."""
        from sfumato.shifts.banks import read_bank

        return tuple(read_bank(path) for path in (self.source_bank, self.target_bank) if path)

    @cached_property
    def _between(self) -> dict[tuple[str, Bank, Bank], TextDirection]:
        return {}

    def between(self, network: DiffusionModel, source: Bank, target: Bank) -> TextDirection:
        """Return the direction from one bank to another, computed once for all batches of an edit."""
        from sfumato.shifts.text_direction import text_direction

        key = (network.fingerprint(), source, target)
        if key not in self._between:
            self._between[key] = text_direction(network, source, target)
        return self._between[key]

    @property
    def files(self) -> Sequence[str]:
        """Paths of the banks and of the direction file."""
        return [path for path in (self.source_bank, self.target_bank, self.direction_file) if path]

    def check_headers(self) -> None:
        """Read the banks, and the header of the direction file. Raises BadInput."""
        _ = self.banks
        if self.direction_file:
            TEXT_DIRECTION.check(self.direction_file)

    def check_files(self) -> None:
        """Read the banks and the direction file. Raises BadInput."""
        _ = self.saved, self.banks

    def notes(self, prompts: Sequence[tuple[str, str]]) -> list[str]:
        """Note that the direction between equal words or banks is zero."""
        from sfumato.shifts.banks import templated

        words = (self.source_word, self.target_word) if self.source_word.strip() else ()
        sides = tuple(map(templated, words)) or self.banks
        if not sides or sides[0] != sides[1]:
            return []
        return ["pix2pix-zero had no effect: the source and the target of its direction are equal."]

    def uses_negative(self, guidance_scale: float) -> bool:
        """As for all methods, and True for `compat="official"`, whose guidance uses maps under the negative prompt."""
        return super().uses_negative(guidance_scale) or (
            self.compat == "official" and self.cross_attention_guidance_amount > 0
        )

    @property
    def from_prompts(self) -> bool:
        """Whether the direction is derived from the difference between the prompts."""
        return not (self.source_word.strip() or self.source_bank or self.direction_file)

    @property
    def keeps_prompt(self) -> bool:
        """True unless the direction is derived from the prompts, which requires a target prompt."""
        return not self.from_prompts

    def check_run(self, network: DiffusionModel, size: tuple[int, int], prompts: Sequence[PromptPair]) -> None:
        """Check the direction against the model, and that all sentences can be tokenised. Raises BadInput."""
        from sfumato.shifts.banks import check_bank, templated

        if self.saved is not None:
            self.saved.check_model(network.fingerprint())
            self.saved.check_condition(network.text_condition([""]))
        for path, bank in zip((self.source_bank, self.target_bank), self.banks, strict=False):
            check_bank(network.text_encoders, bank, f"The bank {printable(path)}")
        for word in dict.fromkeys(self._words(prompts)):
            check_bank(network.text_encoders, templated(word), f'The built-in bank of "{word[:40]}"')

    def _words(self, prompts: Sequence[PromptPair]) -> list[str]:
        """The words for the built-in sentences. Raises BadInput if they cannot be derived from the prompts."""
        if not self.from_prompts:
            return [word for word in (self.source_word, self.target_word) if word.strip()]
        if not prompts:
            raise BadInput(
                "The two text encoders of this model split prompts differently: give words or banks for the direction."
            )
        if not all(prompt.words for pair in prompts for prompt in pair):
            raise BadInput("A prompt has no words to find a direction from: give words, banks or a direction.")
        return [word for pair in prompts for word in differing(*pair) if word]


def differing(source: Prompt, target: Prompt) -> Phrases:
    """Return the words of two prompts without their common beginning and end; see the module docstring."""
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
    """Return the direction of every row; equal ones are computed once, see `Pix2PixZeroParams.between`.

    Raises:
        BadInput: the saved direction was computed with another model.
    """
    from sfumato.shifts.banks import templated

    rows = len(source)
    if params.saved is not None:
        params.saved.check_model(network.fingerprint())
        return [params.saved] * rows
    if params.banks:
        return [params.between(network, *map(tuple, params.banks))] * rows
    if params.from_prompts:
        phrases = [differing(a, b) for a, b in zip(source.prompts, target.prompts, strict=True)]
    else:
        phrases = [(params.source_word, params.target_word)] * rows
    return [params.between(network, *(tuple(templated(words)) for words in pair)) for pair in phrases]


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
    """Add the direction to the condition, and change the latent by cross-attention guidance."""
    from sfumato.core.rows import NEGATIVE
    from sfumato.models.attention import Layers
    from sfumato.shifts.attention_guidance import CROSS, CrossAttentionGuidance, published_guidance
    from sfumato.shifts.text_direction import MoveCondition

    moved = MoveCondition(directions(job.network, job.source, job.target, params), params.scale)
    if not params.cross_attention_guidance_amount:
        return [moved]
    layers = Layers(tuple(name for name, _ in CROSS.of(job.network.unet)))
    if params.compat != "official":
        return [moved, CrossAttentionGuidance(params.cross_attention_guidance_amount, layers=layers)]
    negative = job.guidance.condition_of(NEGATIVE)
    return [moved, *published_guidance(params.cross_attention_guidance_amount, negative, layers)]
