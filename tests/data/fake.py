"""Small imitations of the emoji packages: a few drawings each, generated without network access."""

import json
from pathlib import Path

from sfumato.data.emoji.sources import NPM

#: Emoji of the fake Noto set: a fruit in two colours, a judge in two genders and two tones, one flag.
NOTO = {
    "1f34e": "red-apple",
    "1f34f": "green-apple",
    "1f468-200d-2696-fe0f": "man-judge",
    "1f468-1f3ff-200d-2696-fe0f": "man-judge-dark-skin-tone",
    "1f469-200d-2696-fe0f": "woman-judge",
    "1f355": "pizza",
    "1f1eb-1f1f7": "flag-france",
    "1f3fb": "light-skin-tone",
}


def body(number: int) -> str:
    """An SVG body whose place, shape and colour depend on `number`."""
    colour = f"#{(number * 2654435761) % 0xFFFFFF:06x}"
    return f'<rect x="{1 + number % 3}" y="2" width="{4 + number % 7}" height="6" fill="{colour}"/>'


def iconify(
    folder: Path, key: str, chars: dict[str, str], *, unnamed: tuple[str, ...] = (), aliases: dict | None = None
) -> Path:
    """An unpacked iconify package under `folder`/npm/`key`; `unnamed`: icons without code points."""
    package = folder / "npm" / key
    package.mkdir(parents=True)
    names = [name for name in (*chars.values(), *unnamed) if name not in (aliases or {})]
    icons = {name: {"body": body(i)} for i, name in enumerate(names)}
    (package / "icons.json").write_text(json.dumps({"icons": icons, "aliases": aliases or {}, "width": 16}))
    (package / "chars.json").write_text(json.dumps(chars))
    (package / "package.json").write_text(json.dumps({"version": NPM[key].version}))
    return package


def many(count: int) -> dict[str, str]:
    """`count` emoji faces by code point."""
    return {f"1f6{i:02x}": f"face-{i}" for i in range(count)}


def wheel(site: Path, module: str, folder: str, codes: list[str]) -> None:
    """An installed PyPI package with SVG files named by code points."""
    art = site / module / folder
    art.mkdir(parents=True)
    (site / module / "__init__.py").write_text("")
    for i, code in enumerate(codes):
        svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16">{body(i)}</svg>'
        (art / f"{code}.svg").write_text(svg)
