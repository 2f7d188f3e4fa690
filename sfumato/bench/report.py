"""Reports of results: Parquet for programs, one HTML page with images for readers."""

import json
import math
from base64 import b64encode
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from string import Template
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from sfumato.bench.items import Benchmark, Item
from sfumato.bench.journal import Record
from sfumato.bench.runner import edited_image_name, edited_image_path
from sfumato.bench.settings import Setting
from sfumato.bench.summary import COSTS, IDENTICAL, Line, numbers
from sfumato.files import write_bytes, write_text
from sfumato.images.read import MAX_PIXELS, opened
from sfumato.metrics import Quantity

PARQUET, PAGE = "results.parquet", "report.html"
#: Longest side in pixels of the images in the page.
THUMBNAIL = 128
_UNREADABLE = '<td class="error">the image cannot be read</td>'
#: CSS rules of an edit's thumbnails: "s" (source), "g" (target) or "m" (mask) -> rule.
Rules: TypeAlias = dict[str, str]
ARROW = {"higher": "↑", "lower": "↓"}


def write_parquet(
    folder: Path,
    settings: Sequence[Setting],
    items: Sequence[Item],
    records: Sequence[Record],
    metrics: Mapping[str, Quantity],
) -> Path:
    """Write one row per setting and edit; undefined values and all values of failed edits are null.

    The column `image` contains the file of the edited image, relative to the folder.

    Args:
        folder: folder of the results.
        settings: the settings that were compared.
        items: the edits.
        records: the journal's records of all settings and edits.
        metrics: the metrics, by name.

    Returns:
        The path of the file.
    """
    setting_of, item_of = {each.key: each for each in settings}, {each.name: each for each in items}
    rows = []
    for record in records:
        setting, item = setting_of[record["setting"]], item_of[record["item"]]
        found = {} if "error" in record else numbers(record)
        rows.append(
            {
                "setting": setting.name,
                "method": setting.method,
                "params": json.dumps(dict(setting.params)),
                "seed": setting.seed,
                "item": item.name,
                "kind": item.kind,
                "split": item.split,
                "source_text": item.source_text,
                "target_text": item.target_text,
                "error": record.get("error"),
                "image": None if "error" in record else edited_image_name(setting.key, item.name),
                **{name: _known(found.get(name)) for name in (*metrics, *COSTS)},
            }
        )
    measured = [*metrics, *COSTS]
    others = [(name, pa.int64() if name == "seed" else pa.string()) for name in rows[0] if name not in measured]
    schema = pa.schema([*others, *((name, pa.float64()) for name in measured)])
    file = BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema), file)
    write_bytes(folder / PARQUET, file.getvalue())
    return folder / PARQUET


def write_page(
    folder: Path,
    title: str,
    about: str,
    settings: Sequence[Setting],
    items: Sequence[Item],
    records: Sequence[Record],
    lines: Sequence[Line],
    benchmark: Benchmark,
) -> Path:
    """Write the page as a single file that contains all images.

    Args:
        folder: folder of the results.
        title: title of the page.
        about: a sentence below the title.
        settings: the settings that were compared.
        items: the edits.
        records: the journal's records of all settings and edits.
        lines: the means.
        benchmark: defines the metrics and which of them come first.

    Returns:
        The path of the file.
    """
    known = {**{name: benchmark.metrics[name] for name in benchmark.headline}, **COSTS, **benchmark.metrics}
    measured = {name: each for name, each in known.items() if any(name in line.means for line in lines)}
    place = {item.name: n for n, item in enumerate(items)}
    found = [_thumbnail_rules(n, item) for n, item in enumerate(items)]
    page = Template(files(__package__).joinpath("page.html").read_text(encoding="utf-8")).substitute(
        title=escape(title),
        about=f"<p>{escape(about)}</p>",
        identical=f"{IDENTICAL:g}",
        images="\n".join(rule for rules in found for rule in rules.values()),
        means=_means(lines, measured),
        edits=_edits(folder, settings, items, records, measured, place, found),
    )
    write_text(folder / PAGE, page)
    return folder / PAGE


def _means(lines: Sequence[Line], measured: Mapping[str, Quantity]) -> str:
    head = [_head(name) for name in ("setting", "group", "edits", "failed", "compared")]
    rows = []
    for line in lines:
        title = f"{line.setting.method} {json.dumps(dict(line.setting.params))}"
        cells = [f'<td title="{escape(title)}">{escape(line.setting.name)}</td>', f"<td>{escape(line.group)}</td>"]
        cells += [_number(line.finished), _number(line.failed), _number(line.compared)]
        rows.append(cells + [_number(line.means.get(name)) for name in measured])
    return _table("means", head + [_head(name, each) for name, each in measured.items()], rows)


def _edits(
    folder: Path,
    settings: Sequence[Setting],
    items: Sequence[Item],
    records: Sequence[Record],
    measured: Mapping[str, Quantity],
    place: Mapping[str, int],
    found: Sequence[Rules],
) -> str:
    named = {setting.key: setting.name for setting in settings}
    head = [_head(name) for name in ("setting", "kind", "split", "edit")]
    head += [f"<th>{name}</th>" for name in ("source", "result", "target", "mask")]
    head += [_head(name, each) for name, each in measured.items()]
    rows = []
    for record in records:
        n = place[record["item"]]
        item, rules = items[n], found[n]
        cells = [f"<td>{escape(word)}</td>" for word in (named[record["setting"]], item.kind, item.split)]
        cells.append(f'<td class="words">{escape(item.source_text)} → {escape(item.target_text)}</td>')
        cells.append(_thumbnail_cell("s", n, rules, item.source_text) if rules else _UNREADABLE)
        if "error" in record:
            cells.append(f'<td class="error">{escape(record["error"])}</td>')
        else:
            cells.append(_result(folder, record, item))
        cells.append(_thumbnail_cell("g", n, rules, item.target_text))
        cells.append(_thumbnail_cell("m", n, rules, "the region that changes"))
        scores = {} if "error" in record else numbers(record)
        rows.append(cells + [_number(scores.get(name)) for name in measured])
    return _table("edits", head, rows)


def _table(name: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    body = "\n".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    return f'<table id="{name}"><thead><tr>{"".join(head)}</tr></thead><tbody>\n{body}\n</tbody></table>'


def _head(name: str, metric: Quantity | None = None) -> str:
    if metric is None:
        return f"<th><button>{escape(name)}</button></th>"
    unit = f" [{metric.unit}]" if metric.unit else ""
    return f'<th title="{escape(metric.help)}"><button>{name}{unit} {ARROW[metric.better]}</button></th>'


def _number(value: float | None) -> str:
    known = _known(value)
    if known is None:
        return '<td class="n" data-v="">–</td>'
    shown = "∞" if known == math.inf else f"{known:.4g}"
    return f'<td class="n" data-v="{"Infinity" if known == math.inf else known}">{shown}</td>'


def _known(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value


def _thumbnail_cell(letter: str, n: int, rules: Rules, text: str) -> str:
    if letter not in rules:
        return "<td></td>"
    return f'<td><span class="t {letter}{n}" role="img" title="{escape(text)}" aria-label="{escape(text)}"></span></td>'


def _result(folder: Path, record: Record, item: Item) -> str:
    try:
        with opened(edited_image_path(folder, record["setting"], record["item"]), MAX_PIXELS, ("PNG",)) as image:
            url = _data_url(image.convert("RGB"))
    except Exception:  # decoders raise many types of exceptions
        return _UNREADABLE
    return f'<td><img class="t" src="{url}" alt="{escape(item.target_text)}" loading="lazy"></td>'


def _thumbnail_rules(n: int, item: Item) -> Rules:
    """CSS rules of an edit's thumbnails, which all settings share; empty if the images cannot be read."""
    try:
        images = item.load()
    except Exception:  # the runner has recorded the reason
        return {}
    mask = None if images.mask is None else (images.mask * np.uint8(255)).astype(np.uint8)
    drawn = {"s": images.source, "g": images.target, "m": mask}
    return {
        letter: f'.{letter}{n} {{ background-image: url("{_data_url(Image.fromarray(pixels).convert("RGB"))}"); }}'
        for letter, pixels in drawn.items()
        if pixels is not None
    }


def _data_url(image: Image.Image) -> str:
    """A thumbnail of an image as a data: URL."""
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    file = BytesIO()
    image.save(file, "WEBP", quality=85)
    return f"data:image/webp;base64,{b64encode(file.getvalue()).decode('ascii')}"
