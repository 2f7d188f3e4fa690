"""`sfumato edit --recipe`: convert the recipe in an edited image to flags, to repeat the edit.

A recipe is untrusted: the model must be a bundled one or the user's default, and the files that it names must exist
with the recorded content (`sfumato.cli.recipe_files`).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfumato.cli.defaults import default_model
from sfumato.cli.flags import flag_of
from sfumato.cli.given import Flags, typed_flags
from sfumato.cli.method_flags import edits_of, run_of
from sfumato.cli.outputs import remark
from sfumato.cli.recipe_files import absent, file_of, mask_flags
from sfumato.cli.recipe_options import option_flags
from sfumato.errors import BadInput
from sfumato.files import printable

if TYPE_CHECKING:
    from sfumato.api import Model
    from sfumato.editing.registry import Method

Values = dict[str, list[str]]


def read_edit(path: str, words: Sequence[str], max_pixels: int) -> Flags:
    """The flags of the edit that created an image.

    Args:
        path: the image.
        words: the command line arguments. If they contain --method, the options of the recipe's methods are omitted.
        max_pixels: width x height of the largest image that is read.

    Raises:
        BadInput: the image contains no recipe of an edit, or the recipe requires a file or a model that is missing.
    """
    from sfumato.images import read_recipe

    recipe, typed = read_recipe(path, max_pixels), set(typed_flags(words))
    if recipe.get("operation") != "edit":
        raise BadInput(f"{printable(path)} was not made by an edit: give an image that `sfumato edit` wrote.")
    try:
        flags = _prompts(recipe) | _masks(path, recipe, typed, max_pixels)
        flags |= ({} if "--model" in typed else _model(path, recipe)) | _additions(path, recipe, typed)
        if "--method" not in typed:
            flags |= _methods(path, recipe, typed)
        if _without_target(recipe):
            del flags["--to"]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput(f"the recipe of {printable(path)} is incomplete or of another version: edit again.") from error
    return Flags(f"the recipe of {printable(path)}", flags)


def note_other_model(path: str, model: "Model", max_pixels: int) -> list[str]:
    """A remark, also printed on stderr, if the weights in the recipe differ from those of the model."""
    from sfumato.images import read_recipe

    if read_recipe(path, max_pixels).get("model_fingerprint") == model.network.fingerprint():
        return []
    sentence = f"the recipe of {printable(path)} was made with another model or precision: the result differs."
    remark(sentence)
    return [sentence]


def _prompts(recipe: Mapping[str, Any]) -> Values:
    flags = {
        "--from": [_text(recipe["source_prompt"])],
        "--to": [_text(recipe["prompt"])],
        "--negative-prompt": [_text(recipe["negative_prompt"])],
        "--seed": [str(int(recipe["seed"]))],
        "--dtype": [_text(recipe["dtype"])],
    }
    if not recipe.get("resolution_default"):  # else the default, which depends on the size of the image
        flags["--resolution"] = [str(recipe.get("resolution", "full"))]
    flags |= {"--tiles": []} if recipe.get("tiles") else {}
    return flags if recipe["residual"] else flags | {"--no-residual": []}


def _model(path: str, recipe: Mapping[str, Any]) -> Values:
    """The flags of the model, which must be bundled or the user's default; a recipe cannot select other models."""
    from sfumato.models.bundled import list_models

    name, default = _text(recipe["model"]), default_model().name
    if name in [model.name for model in list_models()]:
        return {"--model": [name]}
    if name in (default, Path(default).expanduser().name):
        return {"--model": [default]}
    raise BadInput(
        f"{printable(path)} was made with the model {printable(name)}, and a recipe contains only its "
        "name: give its folder, file or hub id as --model."
    )


def _additions(path: str, recipe: Mapping[str, Any], typed: set[str]) -> Values:
    """The flags of LoRAs, textual inversions, prompt weights and prompt chunks."""
    from sfumato.models.added_files import place_and_scale, place_and_word

    flags: Values = {}
    for flag, name, suffix, read in (
        ("--lora", "lora", "scale", place_and_scale),
        ("--textual-inversion", "textual_inversion", "word", place_and_word),
    ):
        if name in recipe and flag not in typed:
            files = recipe[name]
            found = [file_of(path, each["name"], each["sha256"], flag) for each in files]
            flags[flag] = [f"{file}:{each[suffix]}" for file, each in zip(found, files, strict=True)]
            if [read(each)[0] for each in flags[flag]] != [Path(file) for file in found]:
                raise absent(path, files[0]["name"], flag)  # a scale or word that is a part of another path
    if "prompt_chunks" in recipe:
        flags["--prompt-chunks"] = [str(int(recipe["prompt_chunks"]))]
    return flags | ({"--prompt-weights": []} if recipe.get("prompt_weights") else {})


def _masks(path: str, recipe: Mapping[str, Any], typed: set[str], max_pixels: int) -> Values:
    """The flags of the mask and of the region, unless --no-mask is given."""
    flags: Values = {}
    if "--no-mask" in typed:
        return flags
    if region := recipe.get("region"):
        words = ",".join(map(_text, region["words"]))
        flags |= {"--mask-words": [words]} if words else {"--mask-difference": []}
        flags["--mask-threshold"] = [str(float(region["threshold"]))]
    elif recipe["masked"] and "mask" not in recipe and "--mask" not in typed:
        raise BadInput(
            f"{printable(path)} was edited with a mask that was not a file: save the mask, and give it as --mask, or "
            "give --no-mask."
        )
    if "mask" in recipe and "--mask" not in typed:
        flags |= mask_flags(path, recipe["mask"]["name"], recipe["mask"]["sha256"], max_pixels)
    return flags


def _methods(path: str, recipe: Mapping[str, Any], typed: set[str]) -> Values:
    """The methods with all of their options."""
    from sfumato.editing.registry import METHODS

    parts = recipe["methods"]
    if not parts or any("shift" in part for part in parts):
        raise BadInput(
            f"{printable(path)} was edited with shifts of a Python program, which the command line cannot repeat: "
            "use Python."
        )
    methods = [METHODS.find(_text(part["method"])) for part in parts]
    flags: Values = {"--method": [method.name for method in methods]}
    first, several = methods[0], len(methods) > 1
    _check_inversion(path, recipe, first)
    run = run_of(first) if several else {**run_of(first), **edits_of(first)}
    flags |= option_flags(path, recipe, first, {name: flag_of(name) for name in run}, recipe, typed)
    for method, part in zip(methods, parts, strict=True) if several else ():
        named = {name: f"--{method.name}.{flag_of(name)[2:]}" for name in edits_of(method)}
        flags |= option_flags(path, recipe, method, named, part, typed)
    return flags


def _without_target(recipe: Mapping[str, Any]) -> bool:
    """Whether the edit had no target prompt, as far as the recipe tells: its prompts are equal, as an edit keeps them.

    An edit keeps the source prompt if one of its methods does, or if it has shifts of a Python program; see
    `sfumato.api.composition.Composition.keeps_prompt`.
    """
    from sfumato.editing.registry import METHODS
    from sfumato.options.params import options_of

    def keeps(part: Mapping[str, Any]) -> bool:
        if part.get("method") not in METHODS.names():  # a shift, or a method of a package that is not installed
            return "shift" in part
        kind, values = METHODS.find(part["method"]).params, {**recipe, **part}
        return kind(**{name: values[name] for name in options_of(kind) if name in values}).keeps_prompt

    return recipe["prompt"] == recipe["source_prompt"] and any(map(keeps, recipe["methods"]))


def _check_inversion(path: str, recipe: Mapping[str, Any], first: "Method") -> None:
    """Raise BadInput if the first method cannot make the inversion in the recipe, which another method made."""
    from sfumato.editing.registry import METHODS
    from sfumato.options.params import options_of

    made_for = METHODS.find(_text(recipe["method"]))
    kind, known = recipe.get("inversion", made_for.inversion), options_of(first.params)
    other = "inversion" not in known and kind != first.inversion
    lost = [
        name
        for name, each in options_of(made_for.params, "invert").items()
        if name not in known and name != "inversion" and recipe.get(name, each.default) != each.default
    ]
    if other or lost:
        raise BadInput(
            f"{printable(path)} was inverted for {made_for.name} and edited by {first.name}: give its inversion, made "
            "by `sfumato invert`, and the flags of the edit."
        )


def _text(value: Any) -> str:
    """Check that a value of a recipe is a text. Raises TypeError otherwise."""
    if not isinstance(value, str):
        raise TypeError(value)
    return value
