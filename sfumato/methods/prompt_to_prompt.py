"""Prompt-to-Prompt: injection of attention maps of the source, to preserve the layout.

Hertz, Mokady, Tenenbaum, Aberman, Pritch, Cohen-Or: "Prompt-to-Prompt Image Editing with Cross Attention Control", ICLR
2023, arXiv 2208.01626, section 3.2. Implemented: word swap and refinement (with a single alignment of the words of both
prompts by their token ids), re-weighting of words, self-attention control, and local blend. The method can be combined
with any inversion that stores latents (`EVERY`); the maps are computed by evaluating the source at its recorded
latents. Fractions of the steps refer to the steps of the edit, without the skipped ones.

Differences from the authors' code: Re-weighting is applied in all steps, as in the paper; in the authors' code it ends
with the cross-attention control. If the prompts have different numbers of tokens, words after the difference use the
maps of the same words of the source, and the k-th padding token uses the map of the k-th padding token of the source;
in the authors' code, words after a replacement of different length are misaligned, and padding tokens are aligned by
position. Local blend upsamples the maps of words bilinearly, the authors' code by nearest neighbour (`blend_filter`).
Not implemented: null-text optimisation, separate fractions of the steps for single words. The two text encoders of SDXL
must split prompts into the same tokens, which is checked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from sfumato.core.prompt import Prompt
from sfumato.editing.job import Job
from sfumato.editing.registry import method
from sfumato.errors import BadInput
from sfumato.options.inversions import EVERY, InversionParams
from sfumato.options.option import option
from sfumato.options.params import PromptPair
from sfumato.options.prompt_words import NamedWord

if TYPE_CHECKING:
    from sfumato.core.shift import Shift
    from sfumato.models.diffusion_model import DiffusionModel
    from sfumato.shifts.local_blend import LocalBlend


@dataclass(frozen=True)
class PromptToPromptParams(InversionParams):
    """Fractions of the steps as in the edit-friendly paper, thresholds as in the authors' code."""

    needs_text: ClassVar[bool] = True

    cross_steps: float = option(
        0.6,
        "fraction of the steps, from the first, in which the source's cross-attention is injected",
        stage="edit",
        low=0,
        high=1,
    )
    self_steps: float = option(
        0.2,
        "fraction of the steps, from the first, in which the source's self-attention is injected",
        stage="edit",
        low=0,
        high=1,
    )
    self_tokens: int = option(
        0,
        "largest self-attention layer that is injected, in queries (height x width of its grid); 0 for 256 (16 x 16), "
        "or 1/16 of the latent's height x width if that is more",
        stage="edit",
        low=0,
        high=2**16,
    )
    swap: bool = option(True, "words that replace others take over their attention maps", stage="edit")
    reweight: str = option("", 'factors of the attention to words of the target prompt: "red=2,cat=0.5"', stage="edit")
    blend: str = option(
        "", 'local blend: words of either prompt outside whose regions the source is preserved: "cat,dog"', stage="edit"
    )
    blend_threshold: float = option(
        0.3,
        "threshold of the region of a word, as a fraction of the range of its attention map",
        stage="edit",
        low=0,
        high=1,
    )
    blend_start: float = option(
        0.2, "fraction of the steps, from the first, without local blend", stage="edit", low=0, high=1
    )

    blend_filter: str = option(
        "bilinear",
        "how local blend enlarges the maps of words to the latent: nearest as in the authors' code",
        stage="edit",
        choices=("bilinear", "nearest"),
    )

    def check(self) -> None:
        """Check value ranges and the format of lists of words. Raises BadInput."""
        super().check()
        self.weights()
        self.blended()

    def weights(self) -> dict[str, float]:
        """Parse the words of `reweight` and their weights.

        Raises:
            BadInput: the text is not of the form word=number, a weight is negative or not finite, or a word occurs
                twice.
        """
        found: dict[str, float] = {}
        for part in _parts(self.reweight):
            word, _, number = (each.strip() for each in part.rpartition("="))
            try:
                weight = float(number)
            except ValueError:
                weight = -1.0
            if not word or not 0 <= weight < float("inf"):
                raise BadInput(
                    f'reweight must be words with weights of at least 0, like "red=2,cat=0.5", not "{part}".'
                )
            if word.casefold() in map(str.casefold, found):
                raise BadInput(f'reweight names "{word}" twice: give it one weight.')
            found[word] = weight
        return found

    def blended(self) -> list[str]:
        """Parse the words of local blend. Raises BadInput for an empty word."""
        return _parts(self.blend)

    @property
    def named_words(self) -> Sequence[NamedWord]:
        """The words of `reweight` and `blend`."""
        weighted = [NamedWord("reweight", word, "target") for word in self.weights()]
        return weighted + [NamedWord("blend", word, "either") for word in self.blended()]

    def notes(self, prompts: Sequence[tuple[str, str]]) -> list[str]:
        """Note options that differ from their defaults and belong to a part of the method that is off."""
        parts = (
            ("blend", self.blend.strip(), ("blend_threshold", "blend_start", "blend_filter")),
            ("self_steps", self.self_steps, ("self_tokens",)),
            ("cross_steps", self.cross_steps, ("swap",)),
        )
        return [
            f"{name} had no effect without {part}."
            for part, active, names in parts
            for name in names
            if not active and getattr(self, name) != getattr(PromptToPromptParams, name)
        ]

    def check_run(self, network: DiffusionModel, size: tuple[int, int], prompts: Sequence[PromptPair]) -> None:
        """Check that the prompts contain the words, and blend_start and self_tokens. Raises BadInput."""
        if not prompts:
            raise BadInput(
                "The two text encoders of this model split prompts differently, so words have no unique position: "
                "choose another method."
            )
        for source, target in prompts:
            self._check_words(source, target)
        run = self.steps - self.skip
        if self.blended() and round(self.blend_start * run) >= run:
            raise BadInput(
                f"blend_start = {self.blend_start:g} leaves none of the {run} steps for the local blend: lower it."
            )
        if self.self_steps:
            coarse(network, size, self)

    def _check_words(self, source: Prompt, target: Prompt) -> None:
        for word in self.weights():
            target.positions(word)
        for word in self.blended():
            if not source.has(word) and not target.has(word):
                raise BadInput(
                    f'The word "{word}" of blend is in neither prompt: the words of the source prompt are '
                    f"{source.listed()}, those of the target prompt {target.listed()}."
                )


@method(
    "prompt-to-prompt",
    summary="attention control (ICLR 2023): swaps, adds or re-weights words and keeps the layout",
    params=PromptToPromptParams,
    inversion="edit-friendly",
    accepts=EVERY,
    section="prompt-to-prompt",
    handles=("condition", "attention", "noise map"),
)
def shifts(job: Job, params: PromptToPromptParams) -> list[Shift]:
    """Inject the attention maps of the source, re-weight words and apply local blend.

    Raises:
        BadInput: no self-attention layer is small enough for `self_tokens`.
    """
    from sfumato.models.attention import Layers
    from sfumato.shifts.alignment import align, token_weights
    from sfumato.shifts.carry import InjectFeatures, InjectMaps, into_target, queries_and_keys
    from sfumato.shifts.words import Reweight

    source, target = job.source, job.condition
    assert target.tokens is not None
    tokens = target.tokens.shape[1]
    found: list[Shift] = []
    if params.cross_steps:
        layers = tuple(name for name, _ in Layers(cross=True).of(job.network.unet))
        alignment = align(source.prompts, target.prompts, tokens, swap=params.swap)
        found.append(InjectMaps(layers, params.cross_steps, alignment))
    if params.self_steps:
        layers = queries_and_keys(coarse(job.network, job.size, params))
        found.append(InjectFeatures(layers, params.self_steps, into_target))
    if weights := params.weights():
        found.append(Reweight(token_weights(target.prompts, list(weights), list(weights.values()), tokens, 1.0)))
    if words := params.blended():
        found.append(_local_blend(job, words, params))
    return found


def coarse(network: DiffusionModel, size: tuple[int, int], params: PromptToPromptParams) -> tuple[str, ...]:
    """Return the names of the self-attention layers to inject, for latents of `size` (height, width).

    The authors inject layers with up to 16 x 16 queries at 512 pixels, i.e. a quarter of the height and width of the
    latents. At 1024 pixels this corresponds to 32 x 32 queries.

    Raises:
        BadInput: all layers have more queries.
    """
    from sfumato.models.layout import attention_layers

    most = params.self_tokens or max(16 * 16, size[0] * size[1] // 16)
    return attention_layers(network.unet, size, cross=False, most_queries=most)


def _local_blend(job: Job, words: list[str], params: PromptToPromptParams) -> LocalBlend:
    """Local blend by the maps of the words in the source and in the target."""
    from sfumato.core.rows import SOURCE, TARGET
    from sfumato.models.layout import word_layers
    from sfumato.shifts.alignment import token_weights
    from sfumato.shifts.local_blend import LocalBlend
    from sfumato.shifts.words import WordMaps

    assert job.source.tokens is not None
    layers, cells = word_layers(job.network.unet, job.size)
    ones, tokens = [1.0] * len(words), job.source.tokens.shape[1]
    source, target = (
        WordMaps(layers, token_weights(each.prompts, words, ones, tokens, 0.0), cells, of)
        for each, of in ((job.source, SOURCE), (job.condition, TARGET))
    )
    return LocalBlend(
        source, target, threshold=params.blend_threshold, start=params.blend_start, mode=params.blend_filter
    )


def _parts(text: str) -> list[str]:
    """Split a text at commas; [] for an empty text.

    Raises:
        BadInput: one of the parts is empty.
    """
    parts = [part.strip() for part in text.split(",")] if text.strip() else []
    if not all(parts):
        raise BadInput(f'Words must be separated by commas, like "cat,dog", not "{text}": remove the empty part.')
    return parts
