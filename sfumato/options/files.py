"""The files that each option of a method names, and the replacement of their paths in the texts of options."""

import re
from collections.abc import Mapping
from dataclasses import replace

from sfumato.options.option import kind_of
from sfumato.options.params import Params, options_of


def text_options(params: type[Params]) -> list[str]:
    """Return the names of the options that take any text, which may name files."""
    return [name for name, each in options_of(params).items() if kind_of(each) is str and not each.metadata["choices"]]


def without_texts(params: Params) -> Params:
    """Return the parameters with an empty text in every option of `text_options`."""
    return replace(params, **dict.fromkeys(text_options(type(params)), ""))


def files_of_options(params: Params) -> dict[str, list[str]]:
    """Return the paths of the files that each option names, by option, without options that name none.

    `Params.files` is evaluated with the text of one option at a time, so two options may name the same file. Files that
    are read whatever the options are, and that the text of an option does not contain, belong to no option.

    Raises:
        BadInput: the text of an option cannot be parsed.
    """
    empty = without_texts(params)
    always, found = set(empty.files), {}
    for name in text_options(type(params)):
        text = str(getattr(params, name))
        paths = dict.fromkeys(replace(empty, **{name: text}).files) if text else {}
        if named := [path for path in paths if path and (path not in always or path in text)]:
            found[name] = named
    return found


def replaced(text: str, names: Mapping[str, str]) -> str:
    """Replace texts by others in one pass, the longest first, as one may be a part of another.

    Args:
        text: the text of an option.
        names: the replacements, by the text that is replaced.
    """
    longest_first = sorted(filter(None, names), key=len, reverse=True)
    parts = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
    return parts.sub(lambda found: names[found[0]], text)
