"""Words that two prompts share outside of the phrases that options name."""

from collections.abc import Sequence

from sfumato.core.prompt import Prompt

FUNCTION_WORDS = frozenset({
    "a", "an", "the", "its", "and", "or", "is", "are", "with", "without", "of", "for", "by", "to", "from", "in", "on",
    "at", "left", "right", "above", "below", "over", "under", "behind", "beside", "near", "next", "between",
})  # fmt: skip
"""Words that describe neither an object nor a property, so that they have no shape or appearance to preserve."""


def shared(source: Prompt, target: Prompt, named: Sequence[str]) -> list[str]:
    """Return the words of two prompts outside the named phrases, in lower case, without function words."""
    words = [word for word in dict.fromkeys(map(str.casefold, target.words)) if word.isalpha()]
    words = [word for word in words if word not in FUNCTION_WORDS]
    return [word for word in words if free(target, word, named) and free(source, word, named)]


def free(prompt: Prompt, word: str, named: Sequence[str]) -> tuple[int, ...]:
    """Return the token positions of a word outside the named phrases; () if there are none."""
    taken = {position for phrase in named if prompt.has(phrase) for position in prompt.positions(phrase)}
    return tuple(each for each in prompt.positions(word) if each not in taken) if prompt.has(word) else ()
