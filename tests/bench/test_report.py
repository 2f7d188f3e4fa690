"""Means, and the two reports."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pyarrow.parquet as pq
import pytest

from sfumato.bench.report import write_page, write_parquet
from sfumato.bench.settings import resolved
from sfumato.bench.summary import COSTS, IDENTICAL, mean, summarise
from tests.bench.small import OURS, SDEDIT, broken


def test_means_leave_out_what_has_no_value():
    assert mean([1.0, float("nan"), 3.0]) == 2
    assert mean([float("inf"), 50.0]) == (IDENTICAL + 50) / 2
    assert np.isnan(mean([float("nan")]))


class Page(HTMLParser):
    """What a reader of the page would find."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.cells, self.text = [], {}, []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)


def test_the_reports(start, model, bench, tmp_path):
    hostile = '<script>alert("1")</script> & $title'
    items = [
        replace(bench.items[0], source_text=hostile, target_text="a cat", split="test"),
        *bench.items[1:],
        broken(),
    ]
    settings = [resolved(each, model) for each in (OURS, SDEDIT)]
    records = start(*settings, items=items)
    lines = summarise(settings, items, records)
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
    assert heads == 2 * 4 + 2 * len(measured)
    values = [attrs["data-v"] for tag, attrs in read.tags if tag == "td" and "data-v" in attrs]
    assert all(value == "" or np.isfinite(float(value)) or value == "Infinity" for value in values)
