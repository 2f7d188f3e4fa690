"""Mean scores and the two reports of a benchmark."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pyarrow.parquet as pq
import pytest

from sfumato.bench.items import Item
from sfumato.bench.piebench import PieBench
from sfumato.bench.report import write_page, write_parquet
from sfumato.bench.runner import edited_image_path
from sfumato.bench.settings import UNCHANGED, Setting, resolved
from sfumato.bench.summary import COSTS, IDENTICAL, as_json, mean, summarise
from sfumato.metrics import METRICS
from tests.bench import small
from tests.bench.small import OURS, SDEDIT, broken


def test_mean_ignores_nan_and_caps_infinite_psnr():
    assert mean([1.0, float("nan"), 3.0]) == 2
    assert mean([float("inf"), 50.0], "dB") == (IDENTICAL + 50) / 2
    assert mean([float("inf")], "dB") == mean([107.0], "dB") == IDENTICAL  # an almost unchanged image is not better
    assert mean([float("inf"), 107.0]) == float("inf")
    assert np.isnan(mean([float("nan")]))


MSE = {"mse": METRICS["mse"]}


def record(setting, item, value=None):
    done = {"scores": {"mse": value}, **dict.fromkeys(COSTS, 1.0)}
    return {"setting": setting.key, "item": item, **({"error": "lost"} if value is None else done)}


def test_means_use_edits_finished_by_all_settings():
    """A row that fails on the hardest edits must not look better; a row that finished nothing is ignored."""
    kinds = {"1": "x", "2": "x", "3": "y"}
    items = [Item(name, kind, "", "", "", broken().load) for name, kind in kinds.items()]
    whole, part, none = settings = [Setting(name, name) for name in ("whole", "part", "none")]
    records = [record(whole, "1", 1.0), record(whole, "2", 3.0), record(whole, "3", 8.0)]
    records += [record(part, "1", 2.0), record(part, "2"), record(part, "3")]
    records += [record(none, item) for item in kinds]
    lines = {(line.setting.name, line.group): line for line in summarise(settings, items, records, MSE)}

    def said(setting, group):
        line = lines[setting, group]
        return line.finished, line.failed, line.compared, line.means.get("mse")

    assert said("whole", "all") == (3, 0, 1, 1.0)
    assert said("part", "all") == (1, 2, 1, 2.0)
    assert said("none", "all") == (0, 3, 0, None)
    assert said("whole", "x") == (2, 0, 1, 1.0)
    assert said("whole", "y") == (1, 0, 1, 8.0)
    assert said("part", "y") == (0, 1, 0, None)
    assert as_json(lines.values())[0]["compared"] == 1


def test_metric_missing_in_some_edits_has_no_mean():
    settings = [Setting(name, name) for name in ("one", "other")]
    items = [Item(name, "", "", "", "", broken().load) for name in ("1", "2")]
    records = [record(setting, item.name, 1.0) for setting in settings for item in items]
    del records[1]["scores"]["mse"]
    lines = summarise(settings, items, records, MSE)
    assert [line.means.get("mse") for line in lines] == [None, 1.0]
    assert [line.means["seconds"] for line in lines] == [1.0, 1.0]


class Page(HTMLParser):
    """A parser that collects the tags and texts of the page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.cells, self.text = [], {}, []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)


def test_reports_contain_all_results(start, model, bench, tmp_path):
    hostile = '<script>alert("1")</script> & $title'
    items = [
        replace(bench.items[0], source_text=hostile, target_text="a cat", split="test"),
        *bench.items[1:],
        broken(),
    ]
    settings = [resolved(each, model) for each in (OURS, SDEDIT)]
    records = start(*settings, items=items)
    lines = summarise(settings, items, records, bench.metrics)
    assert [line.group for line in lines[:5]] == ["all", "random", "change object", "split test", "split "]
    out = tmp_path / "out"

    table = pq.read_table(write_parquet(out, settings, items, records, bench.metrics)).to_pylist()
    assert len(table) == 8
    assert table[0]["source_text"] == hostile
    assert json.loads(table[0]["params"]) == settings[0].params
    assert table[0]["mse"] == pytest.approx(records[0]["scores"]["mse"])
    assert table[2]["outside_mse"] is None  # its mask is full
    assert table[3]["error"].startswith("OSError")
    assert all(table[3][name] is None for name in (*bench.metrics, *COSTS))

    page = write_page(out, "a <title>", "about & all", settings, items, records, lines, bench)
    text = page.read_text(encoding="utf-8")
    read = Page(text)
    assert text.count("<script>") == 1
    assert hostile in "".join(read.text)
    assert sum(tag == "tr" for tag, _ in read.tags) == 1 + len(lines) + 1 + len(records)
    assert sum(tag == "table" for tag, _ in read.tags) == 2
    results = [attrs for tag, attrs in read.tags if tag == "img"]
    assert len(results) == 6
    assert all(attrs["src"].startswith("data:image/webp;base64,") for attrs in results)
    assert text.count("background-image: url(") == 2 * 3  # source and mask of the three that can be read
    assert not re.search(r"https?://|src=\"(?!data:)|@import|<link", text)
    assert "the disk is on fire" in text
    heads = sum(tag == "button" for tag, _ in read.tags)
    measured = {name for line in lines for name in line.means}
    assert heads == 5 + 4 + 2 * len(measured)
    values = [attrs["data-v"] for tag, attrs in read.tags if tag == "td" and "data-v" in attrs]
    assert all(value == "" or np.isfinite(float(value)) or value == "Infinity" for value in values)


def test_invalid_items_do_not_stop_the_reports(start, model, bench, tmp_path):
    """Null bytes, unpaired surrogates in entries and messages, damaged files: all other results are shown."""
    good, odd = small.entry("000000000000", 0, "a", "b", small.square()), "\ud800"
    bad = {"zero": good | {"image_path": "a\0b"}, "half": good | {"editing_prompt": odd}, odd: good}
    items = [*PieBench(small.layout(tmp_path / "pie", **bad)).items, small.broken("told", ValueError(odd))]
    setting, out = resolved(Setting(UNCHANGED, UNCHANGED), model), tmp_path / "out"
    records = start(setting, items=items)
    edited_image_path(out, setting.key, items[0].name).write_bytes(b"no image")
    assert ["error" in each for each in records] == [False] * 3 + [True] * 4
    write_parquet(out, [setting], items, records, bench.metrics)
    lines = summarise([setting], items, records, bench.metrics)
    page = write_page(out, "title", "about", [setting], items, records, lines, bench).read_text(encoding="utf-8")
    assert page.count("the image cannot be read") == 1 + 4
    assert page.count("background-image: url(") == 2 * 3
    assert "its editing_prompt must be text" in page


def test_page_images_keep_their_aspect_ratio(start, model, bench, tmp_path):
    setting, out = resolved(Setting(UNCHANGED, UNCHANGED), model), tmp_path / "out"
    records = start(setting, items=bench.items[:1])
    lines = summarise([setting], bench.items[:1], records, bench.metrics)
    page = write_page(out, "title", "about", [setting], bench.items[:1], records, lines, bench).read_text()
    (rule,) = re.findall(r"^\.t \{(.*)\}$", page, re.MULTILINE)
    assert "object-fit: contain;" in rule  # of results, which are <img>
    assert "center / contain no-repeat" in rule  # of sources, which are backgrounds
