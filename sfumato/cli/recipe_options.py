"""Convert the options of a method in a recipe to flags. The files that they name are found and compared first."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sfumato.cli.flags import flag_of
from sfumato.cli.recipe_files import absent, file_of, hashes_of

if TYPE_CHECKING:
    from sfumato.editing.registry import Method
    from sfumato.options.params import Params


def option_flags(
    path: str,
    recipe: Mapping[str, Any],
    method: "Method",
    flags: Mapping[str, str],
    values: Mapping[str, Any],
    typed: set[str],
) -> dict[str, list[str]]:
    """The flags of some options of a method, with the paths of the files that they name.

    Args:
        path: the edited image.
        recipe: its recipe, which contains the hashes of the files.
        method: the method.
        flags: the flag of each option, by the name of the option.
        values: values by the name of the option.
        typed: flags on the command line, which are omitted.

    Raises:
        BadInput: a file is missing, or the recipe does not contain its hash.
    """
    from sfumato.options.files import text_options, without_texts
    from sfumato.options.option import kind_of
    from sfumato.options.params import options_of

    options, found = options_of(method.params), dict[str, list[str]]()
    params = method.params(**{name: values[name] for name in options if name in values})
    texts, files = dict[str, str](), set(without_texts(params).files)
    for name, flag in flags.items():
        if typed & {flag, flag_of(name)}:
            continue
        value = values[name]
        if name in text_options(method.params):
            text, own = _with_files(path, recipe, params, name, flag)
            texts[name], files = text, files | own
            found[flag] = [text]
        elif isinstance(value, str) and kind_of(options[name]) is not bool:
            found[flag] = [value]
        elif isinstance(value, bool):
            found[flag if value else f"--no-{flag[2:]}"] = []
        else:
            found[flag] = [repr(float(value)) if isinstance(value, float) else str(int(value))]
    together = replace(without_texts(params), **texts)
    if unknown := [file for file in together.files if file not in files]:
        raise absent(path, unknown[0], " and ".join(flags[name] for name in texts if texts[name]))
    return found


def _with_files(path: str, recipe: Mapping[str, Any], params: "Params", name: str, flag: str) -> tuple[str, set[str]]:
    """The text of an option with the paths of its files in place of their names, and these paths.

    Raises:
        BadInput: a file is missing, or the recipe does not contain its hash or contains several.
    """
    from sfumato.options.files import files_of_options, replaced, without_texts
    from sfumato.options.params import options_of

    text = getattr(params, name)
    if not isinstance(text, str):
        raise TypeError(text)
    about = options_of(type(params))[name].metadata
    if about["bundled"](text):
        return text, set()
    stated, empty = hashes_of(path, recipe, name, text, flag), without_texts(params)
    named = files_of_options(replace(empty, **{name: text})).get(name, [])
    if text and not named and about["file"]:
        named = [text]  # a folder next to the image, or a folder or hub id that only the user may name
    if missing := [file for file in named if file not in stated]:
        raise absent(path, missing[0], flag)
    places = {file: file_of(path, file, stated[file], flag) for file in named}
    text = replaced(text, places)
    read = set(files_of_options(replace(empty, **{name: text})).get(name, []))
    if read != set(places.values()):  # the path of the folder has a character with a meaning in this option
        raise absent(path, ", ".join(named), flag)
    return text, read
