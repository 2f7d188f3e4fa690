"""Prompt-to-Prompt: the attention of the source holds the layout while the prompt changes.

Hertz, Mokady, Tenenbaum, Aberman, Pritch, Cohen-Or: "Prompt-to-Prompt Image Editing with Cross Attention Control",
ICLR 2023, arXiv 2208.01626, section 3.2. Implemented: word swap and refinement (one alignment of the two prompts'
words by their token ids), re-weighting of words, self-attention control, local blend; over every inversion, with the
source on its recorded latents. Fractions count the steps that are really run. Re-weighting acts in all of them, as in
the paper; the authors' code drops it when the cross-attention control ends. Not implemented: null-text optimisation,
fractions for single words. SDXL's two text encoders read the same tokens: that they do is checked.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from sfumato.core.prompt import Prompt
from sfumato.core.rows import SOURCE, TARGET
from sfumato.core.shift import Shift
from sfumato.errors import BadInput
from sfumato.methods.inversions import EVERY, InversionParams
from sfumato.methods.job import Job
from sfumato.methods.params import PromptPair, option
from sfumato.methods.registry import method
from sfumato.models.attention import Layers
from sfumato.models.diffusion_model import DiffusionModel
from sfumato.models.layout import attention_layers, word_layers
from sfumato.shifts.alignment import align, token_weights
from sfumato.shifts.carry import CarryFeatures, CarryMaps, into_target, queries_and_keys
from sfumato.shifts.local_blend import LocalBlend
from sfumato.shifts.words import Reweight, WordMaps


@dataclass(frozen=True)
class PromptToPromptParams(InversionParams):
    """Fractions of the edit-friendly paper; thresholds of the authors' code."""

    needs_text: ClassVar[bool] = True

    cross_steps: float = option(
        0.6, "share of the steps in which the source's cross-attention is kept", stage="edit", low=0, high=1
    )
    self_steps: float = option(
        0.2, "share of the steps in which the source's self-attention is kept", stage="edit", low=0, high=1
    )
    self_tokens: int = option(
        0,
        "largest self-attention that is kept, in cells of its grid; 0: 256 (16 x 16), or a sixteenth of the latent's "
        "cells where that is more",
        stage="edit",
        low=0,
        high=2**16,
    )
    swap: bool = option(True, "a word that takes another's place takes over its attention, too", stage="edit")
    reweight: str = option("", 'words of the target made stronger or weaker: "red=2,cat=0.5"', stage="edit")
    blend: str = option("", 'words of either prompt; elsewhere the picture is held: "cat,dog"', stage="edit")
    blend_threshold: float = option(
        0.3, "where a word is: its attention above this share of its range", stage="edit", low=0, high=1
    )
    blend_start: float = option(0.2, "share of the steps before anything is held", stage="edit", low=0, high=1)

    def check(self) -> None:
        """Refuse values out of range and words that cannot be read. Raises BadInput."""
        super().check()
        self.weights()
        self.blended()

    def weights(self) -> dict[str, float]:
        """Words and their weights.

        Raises:
            BadInput: not of the form word=number, a weight below 0 or not finite, or a word twice.
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
        """The words that local blend is about. Raises BadInput as `weights`."""
        return _parts(self.blend)

    def check_run(self, network: DiffusionModel, size: tuple[int, int], prompts: Sequence[PromptPair]) -> None:
        """Refuse words that are not there, a blend that never begins, self-attention too fine. Raises BadInput."""
        if not prompts:
            raise BadInput("The two text encoders of this model split prompts differently, so words have no one place.")
        for source, target in prompts:
            self._check_words(source, target)
        run = self.steps - self.skip
        if self.blend and round(self.blend_start * run) >= run:
            raise BadInput(f"blend_start = {self.blend_start:g} leaves none of the {run} steps of the edit: lower it.")
        if self.self_steps:
            coarse(network, size, self)

    def _check_words(self, source: Prompt, target: Prompt) -> None:
        for word in self.weights():
            target.positions(word)
        for word in self.blended():
            if not source.has(word) and not target.has(word):
                raise BadInput(
                    f'The word "{word}" of blend is in neither prompt: the source has {source.listed()}, '
                    f"the target {target.listed()}."
                )


@method(
    "prompt-to-prompt",
    summary="attention control (ICLR 2023): words swapped, added or re-weighted while the layout holds",
    params=PromptToPromptParams,
    inversion="edit-friendly",
    accepts=EVERY,
    section="prompt-to-prompt",
    handles=("condition", "attention", "noise map"),
)
def shifts(job: Job, params: PromptToPromptParams) -> list[Shift]:
    """The source's attention in the target.

    Raises:
        BadInput: no self-attention layer is small enough.
    """
    source, target = job.source, job.condition
    assert target.tokens is not None
    tokens = target.tokens.shape[1]
    found: list[Shift] = []
    if params.cross_steps:
        layers = tuple(name for name, _ in Layers(cross=True).of(job.network.unet))
        alignment = align(source.prompts, target.prompts, tokens, swap=params.swap)
        found.append(CarryMaps(layers, params.cross_steps, alignment))
    if params.self_steps:
        layers = queries_and_keys(coarse(job.network, job.size, params))
        found.append(CarryFeatures(layers, params.self_steps, into_target))
    if weights := params.weights():
        found.append(Reweight(token_weights(target.prompts, list(weights), list(weights.values()), tokens, 1.0)))
    if words := params.blended():
        found.append(_local_blend(job, words, params))
    return found


def coarse(network: DiffusionModel, size: tuple[int, int], params: PromptToPromptParams) -> tuple[str, ...]:
    """The self-attention layers that are carried for latents of that height and width. Raises BadInput for none.

    The authors carry up to 16 x 16 cells at 512 pixels: a quarter of the latent's side, which is 32 x 32 at 1024.
    """
    most = params.self_tokens or max(16 * 16, size[0] * size[1] // 16)
    return attention_layers(network.unet, size, cross=False, most_queries=most)


def _local_blend(job: Job, words: list[str], params: PromptToPromptParams) -> LocalBlend:
    """With the words' maps of the source and of the target."""
    assert job.source.tokens is not None
    layers, cells = word_layers(job.network.unet, job.size)
    ones, tokens = [1.0] * len(words), job.source.tokens.shape[1]
    source, target = (
        WordMaps(layers, token_weights(each.prompts, words, ones, tokens, 0.0), cells, of)
        for each, of in ((job.source, SOURCE), (job.condition, TARGET))
    )
    return LocalBlend(source, target, threshold=params.blend_threshold, start=params.blend_start)


def _parts(text: str) -> list[str]:
    """What is between commas; nothing in an empty text.

    Raises:
        BadInput: nothing is between two of them.
    """
    parts = [part.strip() for part in text.split(",")] if text.strip() else []
    if not all(parts):
        raise BadInput(f'Words are given between commas, like "cat,dog", not "{text}": leave out what is empty.')
    return parts
