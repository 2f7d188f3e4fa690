"""The emoji corpus: the same content in many openly licensed artistic styles.

`build` creates the dataset folder from packages of pinned versions: `table.parquet`, `images/`, `ATTRIBUTION.md`,
`licences/` and, last, `build.json`.
"""

from sfumato.data.emoji.builder import BuildReport, build
from sfumato.data.emoji.sources import STYLES

__all__ = ["STYLES", "BuildReport", "build"]
