"""The table of the corpus, one row per image."""

import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from sfumato.data.emoji.artwork import Artwork
from sfumato.data.emoji.attributes import AttributeReader
from sfumato.data.emoji.names import emoji_table
from sfumato.data.emoji.render import Measured
from sfumato.data.emoji.sources import Style

_TEXT = pa.string()

SCHEMA = pa.schema(
    [
        ("file", _TEXT),
        ("style", _TEXT),
        ("tier", _TEXT),
        ("licence", _TEXT),
        ("codepoints", _TEXT),
        ("char", _TEXT),
        ("name", _TEXT),
        ("keywords", pa.list_(_TEXT)),
        ("group", _TEXT),
        ("subgroup", _TEXT),
        ("emoji_version", pa.float64()),
        ("untoned", _TEXT),
        ("base", _TEXT),
        ("skin_tone", _TEXT),
        ("gender", _TEXT),
        ("hair", _TEXT),
        ("colour", _TEXT),
        ("tone_key", _TEXT),
        ("gender_key", _TEXT),
        ("hair_key", _TEXT),
        ("colour_key", _TEXT),
        ("variant", pa.int32()),
        ("coverage", pa.float64()),
        ("bbox", pa.list_(pa.int32())),
        ("visible", pa.float64()),
        ("duplicate_of", _TEXT),
        ("package", _TEXT),
        ("source", _TEXT),
    ]
)


@dataclass(frozen=True)
class Entry:
    """One image of the corpus before it is rendered."""

    style: Style
    artwork: Artwork
    #: Package and version of the drawing.
    package: str

    @property
    def file(self) -> str:
        """Path of the image relative to the dataset folder, with forward slashes."""
        variant = f"-v{self.artwork.variant}" if self.artwork.variant else ""
        return f"images/{self.style.name}/{self.artwork.codepoints}{variant}.png"


def make_table(entries: Sequence[Entry], measured: Sequence[Measured]) -> pa.Table:
    """Build the table, in the order of `entries`.

    The column `duplicate_of` is the first image of the style with the same pixels, "" if it is the image itself.
    """
    table = emoji_table()
    attributes = AttributeReader(table)
    first: dict[tuple[str, str], str] = {}
    rows = []
    for entry, pixels in zip(entries, measured, strict=True):
        emoji, style = table[entry.artwork.codepoints], entry.style
        original = first.setdefault((style.name, pixels.digest), entry.file)
        rows.append(
            {
                "file": entry.file,
                "style": style.name,
                "tier": style.tier,
                "licence": style.licence,
                "codepoints": emoji.codepoints,
                "char": emoji.char,
                "name": emoji.name,
                "keywords": list(emoji.keywords),
                "group": emoji.group,
                "subgroup": emoji.subgroup,
                "emoji_version": emoji.version,
                "variant": entry.artwork.variant,
                "coverage": pixels.coverage,
                "bbox": list(pixels.bbox),
                "visible": pixels.visible,
                "duplicate_of": "" if original == entry.file else original,
                "package": entry.package,
                "source": entry.artwork.source,
                **asdict(attributes(emoji.codepoints)),
            }
        )
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def table_bytes(table: pa.Table) -> bytes:
    """The table as a Parquet file."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()
