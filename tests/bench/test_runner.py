"""The runner: resumes, survives bad items, costs and results as of single edits; and the two reports."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

import sfumato
from sfumato.bench import editors, runner
from sfumato.bench.items import Item
from sfumato.bench.journal import NAME, Journal
from sfumato.bench.piebench import PieBench
from sfumato.bench.report import write_page, write_parquet
from sfumato.bench.runner import Runner, limited, picture_path
from sfumato.bench.settings import PIPELINES, UNCHANGED, Setting, default_settings, read_settings, resolved
from sfumato.bench.summary import COSTS, IDENTICAL, mean, summarise
from sfumato.errors import BadInput
from sfumato.methods.registry import methods
from tests.bench import small

OURS = Setting("ours", "edit-friendly", {"steps": 3, "skip": 1, "source_strength": 1.5, "strength": 2.0})
LEDITS = Setting("LEDITS++", "diffusers-ledits++", {"steps": 3, "skip": 1, "source_strength": 1.0, "strength": 2.0})
SDEDIT = Setting("img2img", "diffusers-img2img", {"steps": 3, "skip": 1, "strength": 2.0})
ABOUT = {"benchmark": "small", "model": "tiny"}


@pytest.fixture(scope="module")
def model(tiny_sd_folder):
    return sfumato.load(tiny_sd_folder)


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    return small.judge(tmp_path_factory.mktemp("clip"))


@pytest.fixture
def bench(tmp_path):
    return PieBench(small.layout(tmp_path / "pie"))


@pytest.fixture
def start(tmp_path, bench, model, judge):
    """Run settings over the benchmark's items, in the folder "out"; gives the records."""

    def run(*settings, items=None, **more):
        with Journal(tmp_path / "out", ABOUT) as journal:
            items = bench.items if items is None else items
            return Runner(bench, items, model, judge, journal, tmp_path / "out", **more).run(settings)

    return run


def test_unchanged_is_the_source_at_no_cost(start, model, tmp_path, bench):
    setting = resolved(Setting(UNCHANGED, UNCHANGED), model)
    for record, item in zip(start(setting), bench.items, strict=True):
        with Image.open(picture_path(tmp_path / "out", setting.key, item.name)) as picture:
            np.testing.assert_array_equal(np.asarray(picture), item.load().source)
        assert [record[name] for name in COSTS] == [0, 0, 0]


def broken(name="broken"):
    def load():
        raise OSError("the disk is on fire")

    return Item(name, "random", "", "a", "b", load)


def test_every_setting_edits_every_item(start, model, tmp_path):
    settings = [resolved(each, model) for each in (OURS, LEDITS, SDEDIT)]
    records = start(*settings)
    assert [(r["setting"], r["item"]) for r in records] == [
        (s.key, item) for s in settings for item in ("000000000000", "111000000001", "111000000002")
    ]
    for record in records:
        assert "error" not in record
        assert record["seconds"] > 0
        with Image.open(picture_path(tmp_path / "out", record["setting"], record["item"])) as picture:
            assert picture.size == (small.SIDE, small.SIDE)
    # steps 3, skip 1: ours inverts 3 and replays 2 guidance pairs, LEDITS++ 2 and 2, img2img denoises 2
    assert [record["evaluations"] for record in records[::3]] == [10, 8, 4]


def test_in_a_batch_as_alone(start, model, tmp_path):
    setting = resolved(OURS, model)
    together = start(setting)
    pixels = [picture_path(tmp_path / "out", setting.key, r["item"]).read_bytes() for r in together]
    (tmp_path / "out" / NAME).unlink()
    alone = start(setting, batch=1)
    for a, b, before in zip(together, alone, pixels, strict=True):
        assert a["evaluations"] == b["evaluations"]
        with Image.open(picture_path(tmp_path / "out", setting.key, b["item"])) as picture:
            now = np.asarray(picture).astype(int)
        (tmp_path / "before.png").write_bytes(before)
        assert np.abs(now - np.asarray(Image.open(tmp_path / "before.png"))).max() <= 1
        for name, value in a["scores"].items():
            assert value == pytest.approx(b["scores"][name], rel=0.02, abs=1e-3, nan_ok=True), name


def test_large_pictures_are_judged_one_at_a_time(bench, model, judge, tmp_path, monkeypatch):
    pictures = [item.load() for item in bench.items]
    edits = [small.blurred(each.source) for each in pictures]
    with Journal(tmp_path / "out", ABOUT) as journal:
        runs = Runner(bench, bench.items, model, judge, journal, tmp_path / "out")
        together = runs._scores(bench.items, pictures, edits)
        monkeypatch.setattr(runner, "JUDGED_PIXELS", small.SIDE**2)
        alone = runs._scores(bench.items, pictures, edits)
    assert len(together) == len(alone) == 3
    for a, b in zip(together, alone, strict=True):
        assert a == pytest.approx(b, rel=1e-3, abs=1e-4, nan_ok=True)
    assert together[0]["mse"] != together[1]["mse"]


def test_ours_is_what_the_python_api_gives(start, model, bench, tmp_path):
    setting = resolved(replace(OURS, residual=False, seed=7), model)
    start(setting, items=bench.items[:1])
    item = bench.items[0]
    inverted = model.invert(Image.fromarray(item.load().source), item.source_text, seed=7, **setting.params)
    expected = inverted.edit(item.target_text, residual=False).pixels[0]
    with Image.open(picture_path(tmp_path / "out", setting.key, item.name)) as picture:
        assert np.array_equal(np.asarray(picture), expected)


def test_a_second_run_does_only_what_is_missing(start, model, bench, monkeypatch):
    setting, made = resolved(OURS, model), []
    original = editors.Ours.edit

    def edit(self, items, pictures):
        made.extend(item.name for item in items)
        return original(self, items, pictures)

    monkeypatch.setattr(editors.Ours, "edit", edit)
    first = start(setting, items=bench.items[:1])
    assert start(setting, items=bench.items[:1]) == first
    assert made == ["000000000000"]
    start(setting)
    assert made == ["000000000000", "111000000001", "111000000002"]
    start(resolved(replace(OURS, params={**OURS.params, "strength": 2.5}), model))
    assert len(made) == 6


def test_stopped_in_the_middle_it_goes_on(start, model, monkeypatch):
    """The first edit is finished when Ctrl-C comes; a kill besides leaves half a line."""
    setting, original, calls = resolved(OURS, model), editors.Ours.edit, []

    def edit(self, items, pictures):
        calls.append(items[0].name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(self, items, pictures)

    monkeypatch.setattr(editors.Ours, "edit", edit)
    with pytest.raises(KeyboardInterrupt):
        start(setting, batch=1)
    records = start(setting, batch=1)
    assert calls == ["000000000000", "111000000001", "111000000001", "111000000002"]
    assert all("error" not in record for record in records)


def test_a_bad_item_is_recorded_and_never_stops_the_run(start, model, bench, judge):
    setting = resolved(OURS, model)
    long = replace(bench.items[1], name="long", target_text="word " * 200)
    records = start(setting, items=[bench.items[0], broken(), long, bench.items[2]])
    assert ["error" in record for record in records] == [False, True, True, False]
    assert records[1]["error"] == "OSError: the disk is on fire"
    assert "token" in records[2]["error"]
    lines = summarise([setting], [bench.items[0], broken(), long, bench.items[2]], records)
    assert (lines[0].finished, lines[0].failed) == (2, 2)


def test_failed_items_are_tried_again(start, model, bench):
    setting, item = resolved(OURS, model), bench.items[0]
    assert "error" in start(setting, items=[broken(item.name)])[0]
    assert "error" not in start(setting, items=[item])[0]


def test_an_editor_that_cannot_be_loaded_fails_its_own_row(start, model, bench, monkeypatch):
    def refuse(task):
        raise ValueError("no such pipeline")

    monkeypatch.setitem(editors._CONTENDERS, "diffusers-img2img", refuse)
    records = start(resolved(SDEDIT, model), resolved(OURS, model), items=bench.items[:1])
    assert records[0]["error"] == "ValueError: no such pipeline"
    assert "error" not in records[1]


def test_limits_take_the_kinds_in_turn(bench):
    items = [replace(bench.items[0], name=str(n), kind="abbb"[n % 4]) for n in range(12)]
    assert [item.kind for item in limited(items, 5)] == ["a", "b", "a", "b", "a"]
    assert limited(items, 4) == limited(items, 7)[:4]
    assert len(limited(items, None)) == len(limited(items, 99)) == 12


class TestJournal:
    def test_half_a_line_is_dropped_and_the_rest_kept(self, tmp_path):
        with Journal(tmp_path, ABOUT) as journal:
            journal.add({"setting": "s", "item": "1", "scores": {"psnr": float("inf"), "ssim": float("nan")}})
        with open(tmp_path / NAME, "ab") as file:
            file.write(b'{"setting": "s", "item": "2", "sco')
        with Journal(tmp_path, ABOUT) as journal:
            assert journal.done("s", "1")
            assert not journal.done("s", "2")
            assert journal.records["s", "1"]["scores"]["psnr"] == float("inf")
            journal.add({"setting": "s", "item": "2"})
        assert len((tmp_path / NAME).read_text().splitlines()) == 3
        with Journal(tmp_path, ABOUT) as journal:
            assert journal.done("s", "2")

    def test_results_of_something_else_are_not_mixed_in(self, tmp_path):
        Journal(tmp_path, ABOUT).close()
        with pytest.raises(BadInput, match="another model"):
            Journal(tmp_path, ABOUT | {"model": "other"})

    def test_two_runs_at_once(self, tmp_path):
        with Journal(tmp_path, ABOUT), pytest.raises(BadInput, match="another run"):
            Journal(tmp_path, ABOUT)

    def test_damage_is_said(self, tmp_path):
        with Journal(tmp_path, ABOUT) as journal:
            journal.add({"setting": "s", "item": "1"})
        (tmp_path / NAME).write_text("{}\nnonsense\n")
        with pytest.raises(BadInput, match="damaged"):
            Journal(tmp_path, ABOUT)
        (tmp_path / "file").write_text("")
        with pytest.raises(BadInput, match="--out"):
            Journal(tmp_path / "file", ABOUT)


class TestSettings:
    def test_rows_of_a_file(self, tmp_path, model):
        file = tmp_path / "rows.toml"
        file.write_text(
            '[[row]]\nname = "a"\nmethod = "edit-friendly"\nskip = 2\nsteps = 4\nseed = 3\n'
            '[[row]]\nname = "b"\nmethod = "diffusers-img2img"\nresidual = false\n'
        )
        first, second = (resolved(each, model) for each in read_settings(file))
        assert (first.name, first.seed, first.residual) == ("a", 3, True)
        assert (first.params["skip"], first.params["steps"], first.params["eta"]) == (2, 4, 1.0)
        assert set(second.params) == set(PIPELINES["diffusers-img2img"])

    def test_the_key_stands_for_everything_but_the_name(self):
        assert OURS.key == replace(OURS, name="other").key
        others = [
            replace(OURS, method="ddim"),
            replace(OURS, seed=1),
            replace(OURS, residual=False),
            replace(OURS, params={"steps": 4}),
        ]
        assert len({each.key for each in (OURS, *others)}) == 5

    def test_by_default_all_methods_that_follow_prompts_over_all_inversions_and_diffusers(self, model):
        settings = default_settings(model)
        by_text = {name for name, method in methods().items() if "condition" in method.handles}
        assert {"edit-friendly", "sdedit", "prompt-to-prompt"} <= by_text
        assert not {"colour", "shift"} & by_text
        assert {each.method for each in settings} == {UNCHANGED, *by_text, *PIPELINES}
        assert len({each.name for each in settings}) == len(settings)
        assert len({resolved(each, model).key for each in settings}) == len(settings)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("row = 1", r"\[\[row\]\]"),
            ("[other]\na = 1", r"\[\[row\]\]"),
            ("[[row]", "TOML"),
            ('[[row]]\nname = "a"', "a name and a method"),
            ('[[row]]\nname = "a"\nmethod = "magic"', "no method 'magic'"),
            ('[[row]]\nname = "a"\nmethod = "ddim"\nseed = "x"', "seed"),
            ('[[row]]\nname = "a"\nmethod = "ddim"\n[[row]]\nname = "a"\nmethod = "ddim"', "two rows called 'a'"),
        ],
    )
    def test_files_that_cannot_be_used(self, tmp_path, text, message):
        (tmp_path / "rows.toml").write_text(text)
        with pytest.raises(BadInput, match=message):
            read_settings(tmp_path / "rows.toml")

    def test_the_source_has_no_options(self, model):
        with pytest.raises(BadInput, match=r"row 'mine': unchanged has no options"):
            resolved(Setting("mine", UNCHANGED, {"steps": 3}), model)

    @pytest.mark.parametrize("method", ["edit-friendly", *PIPELINES])
    def test_parameters_are_checked_with_the_row_s_name(self, model, method):
        with pytest.raises(BadInput, match=r"row 'mine': .*no option 'colour'"):
            resolved(Setting("mine", method, {"colour": 3}), model)
        with pytest.raises(BadInput, match=r"row 'mine': .*steps"):
            resolved(Setting("mine", method, {"steps": 0}), model)

    def test_diffusers_needs_a_stable_diffusion_folder(self, tiny_ddpm_folder):
        other = sfumato.load(tiny_ddpm_folder)
        with pytest.raises(BadInput, match="not a Stable Diffusion folder"):
            resolved(SDEDIT, other)
        assert not {each.method for each in default_settings(other)} & set(PIPELINES)


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
