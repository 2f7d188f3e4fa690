"""Find the files that a recipe names, next to the edited image or in the working folder, and compare their content.

File names in a recipe contain no folders. A recipe is untrusted input, so files in other folders are never opened.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sfumato.errors import BadInput
from sfumato.files import printable


def places(path: str, name: Any) -> Iterator[Path]:
    """Candidate paths of a file; none if its name would lead to another folder.

    Args:
        path: the edited image.
        name: name of the file in the recipe.
    """
    if isinstance(name, str) and name and Path(name).name == name and name not in (".", ".."):
        for folder in dict.fromkeys((Path(path).parent, Path())):
            if (folder / name).exists():
                yield folder / name


def file_of(path: str, name: Any, sha256: Any, flag: str) -> str:
    """The file or folder with a name and a hash (`sfumato.regular_files.content_hash`).

    Raises:
        BadInput: there is none; the message names the flag with which it can be given.
    """
    from sfumato.regular_files import content_hash

    refusals: list[BadInput] = []
    for place in places(path, name):
        try:
            if content_hash(place) == sha256:
                return str(place)
        except BadInput as error:
            refusals.append(error)
    raise absent(path, name, flag, refusals)


def hashes_of(path: str, recipe: Mapping[str, Any], option: str, text: str, flag: str) -> dict[str, str]:
    """The hashes of the files of an option, by name. Entries of older recipes lack the option and count for all.

    Args:
        path: the edited image.
        recipe: its recipe.
        option: name of the option.
        text: value of the option in the recipe.
        flag: flag of the option in error messages.

    Raises:
        BadInput: the text contains a name for which there are different hashes.
    """
    found: dict[str, str] = {}
    for each in recipe.get("files", []):
        if each.get("option", option) != option:
            continue
        name, sha256 = each["name"], each["sha256"]
        if name in text and found.setdefault(name, sha256) != sha256:
            raise BadInput(
                f"the recipe of {printable(path)} needs different files with the name {printable(name)}: give {flag}."
            )
    return found


def image_file(path: str, max_pixels: int) -> str:
    """The source image of an edit.

    Raises:
        BadInput: there is no image with the name and the pixels in the recipe.
    """
    from sfumato.images import read_image, read_recipe
    from sfumato.images.loaded_image import image_fingerprint

    stated = read_recipe(path, max_pixels).get("image")
    stated = stated if isinstance(stated, dict) else {}
    refusals: list[BadInput] = []
    for place in places(path, stated.get("name")):
        try:
            if image_fingerprint(read_image(str(place), max_pixels)) == stated.get("sha256"):
                return str(place)
        except BadInput as error:
            refusals.append(error)
    raise BadInput(
        f"{printable(path)} was made from {printable(str(stated.get('name')))}, which is neither next to "
        f"it nor in the working folder with the same pixels{_reasons(refusals)}: give the image to edit too."
    )


def mask_flags(path: str, name: Any, sha256: Any, max_pixels: int) -> dict[str, list[str]]:
    """The flags of a mask with the levels in the recipe. Raises BadInput if there is no such mask."""
    for place in places(path, name):
        for flags in ((), ("--mask-transparent",), ("--mask-as-is",), ("--mask-transparent", "--mask-as-is")):
            if _levels(place, flags, max_pixels) == sha256:
                return {"--mask": [str(place)], **{flag: [] for flag in flags}}
    raise absent(path, name, "--mask or --no-mask")


def _levels(place: Path, flags: Collection[str], max_pixels: int) -> str:
    """Hash of the levels of a mask that is read with these flags; "" if the file cannot be read as such."""
    from sfumato.images import read_mask, transparent_parts
    from sfumato.images.read import open_upright

    try:
        image = open_upright(str(place), max_pixels).image
        mask = transparent_parts(str(place), max_pixels) if "--mask-transparent" in flags else str(place)
        return read_mask(mask, image.size, max_pixels, as_is="--mask-as-is" in flags).sha256
    except BadInput:
        return ""


def absent(path: str, name: Any, flag: str, refusals: Sequence[BadInput] = ()) -> BadInput:
    """The error for a missing file; `refusals` are the errors of files with its name."""
    return BadInput(
        f"the recipe of {printable(path)} needs {printable(str(name))}, which is neither next to it nor "
        f"in the working folder with the same content{_reasons(refusals)}: give {flag}."
    )


def _reasons(refusals: Sequence[BadInput]) -> str:
    """Why files with the name could not be read, in parentheses; "" if all of them could."""
    return f" ({'; '.join(str(each).rstrip('.') for each in refusals)})" if refusals else ""
