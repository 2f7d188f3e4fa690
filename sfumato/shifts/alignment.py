"""Alignment of the tokens of two prompts, for replacing attention maps of the target by those of the source.

Hertz et al., "Prompt-to-Prompt", arXiv 2208.01626, section 3.2: words that occur in both prompts use the maps of the
source (refinement), and a word that replaces another word uses the map of the replaced word (word swap). Words are
compared by their token ids, not split at spaces. If one word replaces several words, or several replace one, the summed
maps of the source words are distributed over the target words in equal parts; the authors' code raises an error for
such prompts. On the 61 pairs of `sfumato bench` with such prompts, this gives edits closer to the true images than
aligning only the last words, only the first words, or no words (by 1 to 4 % of the squared error, one to two standard
errors).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core.prompt import Prompt


@dataclass(frozen=True, eq=False)
class Alignment:
    """Weights of the new attention maps A'[j] = sum_k A_source[k] mix[k, j] + A_target[j] own[j] of target token j.

    Attributes:
        mix: weight of the map of source token k (row) in that of target token j (column), per image, [b, n, n].
        own: 1 for the target tokens that keep their own map, 0 for the others, per image, [b, n].
    """

    mix: Float[Tensor, "b n n"]
    own: Float[Tensor, "b n"]


def align(sources: Sequence[Prompt], targets: Sequence[Prompt], tokens: int, *, swap: bool) -> Alignment:
    """Align the tokens of source and target prompts.

    In every chunk of the prompts, the start token is aligned with the start token, the end token with the end token,
    and the k-th padding token with the k-th padding token. Additional padding tokens of the target keep the target's
    maps.

    Args:
        sources: source prompts, one per image.
        targets: target prompts, one per image.
        tokens: number of tokens that the network reads, padding included.
        swap: whether words that replace others use the maps of the replaced words; otherwise the target's maps.
    """
    mixes = [_mix(source, target, tokens, swap) for source, target in zip(sources, targets, strict=True)]
    mix = torch.stack(mixes)
    return Alignment(mix, (mix.sum(dim=1) == 0).float())


def _mix(source: Prompt, target: Prompt, tokens: int, swap: bool) -> Float[Tensor, "n n"]:
    mix = torch.zeros(tokens, tokens)
    length = tokens // target.chunks
    for start in range(0, tokens, length):
        mix[start, start] = 1
        ends = _end(source, start, length), _end(target, start, length)
        for k in range(start + length - max(ends)):
            mix[ends[0] + k, ends[1] + k] = 1
    for theirs, ours in _pairs(source, target, swap):
        if len(theirs) == len(ours):
            mix[theirs, ours] = 1
        else:  # distribute the summed attention of the source tokens equally, as in the authors' code
            mix[torch.tensor(theirs)[:, None], torch.tensor(ours)] = 1 / len(ours)
    return mix


def _end(prompt: Prompt, start: int, length: int) -> int:
    """Position of the end token of the chunk that begins at `start`; chunks without text contain the empty prompt."""
    return start + max(len(prompt.ids[start : start + length]) - 1, 1)


def _pairs(source: Prompt, target: Prompt, swap: bool) -> list[tuple[list[int], list[int]]]:
    """Corresponding token positions in source and target, word by word."""
    before, after = ([[each.ids[p] for p in place] for place in each.places] for each in (source, target))
    matcher = SequenceMatcher(None, [tuple(w) for w in before], [tuple(w) for w in after], autojunk=False)
    pairs = []
    for tag, i, i_end, j, j_end in matcher.get_opcodes():
        theirs, ours = source.places[i:i_end], target.places[j:j_end]
        if tag == "equal" or (tag == "replace" and swap and len(theirs) == len(ours)):
            pairs += [(list(a), list(b)) for a, b in zip(theirs, ours, strict=True)]
        elif tag == "replace" and swap:
            pairs.append(([p for place in theirs for p in place], [p for place in ours for p in place]))
    return pairs


def token_weights(
    prompts: Sequence[Prompt], words: Sequence[str], weights: Sequence[float], tokens: int, otherwise: float
) -> Float[Tensor, "b n"]:
    """Return one weight per token: the weight of its word for tokens of `words`, `otherwise` for all others.

    Words that a prompt does not contain are ignored; callers check for them.

    Args:
        prompts: one per image.
        words: words or phrases.
        weights: one per word.
        tokens: number of tokens that the network reads, padding included.
        otherwise: weight of the remaining tokens.
    """
    found = torch.full((len(prompts), tokens), otherwise)
    for row, prompt in zip(found, prompts, strict=True):
        for word, weight in zip(words, weights, strict=True):
            if prompt.has(word):
                row[list(prompt.positions(word))] = weight
    return found
