"""The benchmark runner: resuming, invalid items, and costs and results equal to those of single edits."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import sfumato
from sfumato.bench import editors, runner
from sfumato.bench.journal import NAME, Journal
from sfumato.bench.piebench import PieBench
from sfumato.bench.runner import Runner, edited_image_path, limited
from sfumato.bench.settings import UNCHANGED, Setting, resolved
from sfumato.bench.summary import COSTS, summarise
from sfumato.errors import BadInput
from tests.bench import small
from tests.bench.small import ABOUT, LEDITS, OURS, SDEDIT, broken


def test_unchanged_returns_the_source_at_no_cost(start, model, tmp_path, bench):
    setting = resolved(Setting(UNCHANGED, UNCHANGED), model)
    for record, item in zip(start(setting), bench.items, strict=True):
        with Image.open(edited_image_path(tmp_path / "out", setting.key, item.name)) as image:
            np.testing.assert_array_equal(np.asarray(image), item.load().source)
        assert [record[name] for name in COSTS] == [0, 0, 0]


def test_every_setting_edits_every_item(start, model, tmp_path):
    settings = [resolved(each, model) for each in (OURS, LEDITS, SDEDIT)]
    records = start(*settings)
    assert [(r["setting"], r["item"]) for r in records] == [
        (s.key, item) for s in settings for item in ("000000000000", "111000000001", "111000000002")
    ]
    for record in records:
        assert "error" not in record
        assert record["seconds"] > 0
        with Image.open(edited_image_path(tmp_path / "out", record["setting"], record["item"])) as image:
            assert image.size == (small.SIDE, small.SIDE)
    # steps 3, skip 1: ours inverts 3 and replays 2 guidance pairs, LEDITS++ 2 and 2, img2img denoises 2
    assert [record["evaluations"] for record in records[::3]] == [10, 8, 4]


def test_batch_gives_the_results_of_single_edits(start, model, tmp_path):
    setting = resolved(OURS, model)
    together = start(setting)
    pixels = [edited_image_path(tmp_path / "out", setting.key, r["item"]).read_bytes() for r in together]
    (tmp_path / "out" / NAME).unlink()
    alone = start(setting, batch=1)
    for a, b, before in zip(together, alone, pixels, strict=True):
        assert a["evaluations"] == b["evaluations"]
        with Image.open(edited_image_path(tmp_path / "out", setting.key, b["item"])) as image:
            now = np.asarray(image).astype(int)
        (tmp_path / "before.png").write_bytes(before)
        assert np.abs(now - np.asarray(Image.open(tmp_path / "before.png"))).max() <= 1
        for name, value in a["scores"].items():
            assert value == pytest.approx(b["scores"][name], rel=0.02, abs=1e-3, nan_ok=True), name


def test_scores_do_not_depend_on_the_evaluation_batch(bench, model, evaluator, tmp_path, monkeypatch):
    images = [item.load() for item in bench.items]
    edits = [small.blurred(each.source) for each in images]
    with Journal(tmp_path / "out", ABOUT) as journal:
        runs = Runner(bench, bench.items, model, evaluator, journal, tmp_path / "out")
        together = runs._scores(bench.items, images, edits)
        monkeypatch.setattr(runner, "JUDGED_PIXELS", small.SIDE**2)
        sizes, evaluate = [], runner.evaluate
        monkeypatch.setattr(runner, "evaluate", lambda *given: sizes.append(len(given[2])) or evaluate(*given))
        alone = runs._scores(bench.items, images, edits)
    assert sizes == [1, 1, 1]
    assert len(together) == len(alone) == 3
    for a, b in zip(together, alone, strict=True):
        assert a == pytest.approx(b, rel=1e-3, abs=1e-4, nan_ok=True)
    assert together[0]["mse"] != together[1]["mse"]


def test_edit_equals_that_of_the_python_api(start, model, bench, tmp_path):
    setting = resolved(replace(OURS, residual=False, seed=7), model)
    start(setting, items=bench.items[:1])
    item = bench.items[0]
    inverted = model.invert(Image.fromarray(item.load().source), item.source_text, seed=7, **setting.params)
    expected = inverted.edit(item.target_text, residual=False).pixels[0]
    with Image.open(edited_image_path(tmp_path / "out", setting.key, item.name)) as image:
        assert np.array_equal(np.asarray(image), expected)


def test_second_run_makes_only_missing_edits(start, model, bench, monkeypatch):
    setting, made = resolved(OURS, model), []
    original = editors.Ours.edit

    def edit(self, items, images):
        made.extend(item.name for item in items)
        return original(self, items, images)

    monkeypatch.setattr(editors.Ours, "edit", edit)
    first = start(setting, items=bench.items[:1])
    assert start(setting, items=bench.items[:1]) == first
    assert made == ["000000000000"]
    start(setting)
    assert made == ["000000000000", "111000000001", "111000000002"]
    start(resolved(replace(OURS, params={**OURS.params, "guidance_scale": 2.5}), model))
    assert len(made) == 6


def test_saved_edit_without_a_metric_is_only_rescored(start, model, bench, tmp_path, monkeypatch):
    """For example after installing a package with a metric. An edit whose image is missing is made again."""
    setting = resolved(Setting(UNCHANGED, UNCHANGED), model)
    whole = bench.metrics
    bench.metrics = {name: each for name, each in whole.items() if name != "mse"}
    assert "mse" not in start(setting, items=bench.items[:2])[0]["scores"]
    bench.metrics = whole
    journal = tmp_path / "out" / NAME
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    journal.write_text("".join(json.dumps(each | ({"seconds": 5} if "item" in each else {})) + "\n" for each in lines))
    saved = [edited_image_path(tmp_path / "out", setting.key, item.name) for item in bench.items[:2]]
    Image.new("RGB", (small.SIDE, small.SIDE)).save(saved[0])  # what is scored is the saved image
    saved[1].unlink()
    made, original = [], editors.Unchanged.edit

    def edit(self, items, images):
        made.extend(item.name for item in items)
        return original(self, items, images)

    monkeypatch.setattr(editors.Unchanged, "edit", edit)
    records = start(setting)
    assert made == ["111000000001", "111000000002"]
    assert [each["seconds"] for each in records] == [5, 0, 0]
    assert all(each["scores"].keys() == whole.keys() for each in records)
    black = np.square(bench.items[0].load().source / 255).mean()
    assert [each["scores"]["mse"] for each in records] == [pytest.approx(black), 0, 0]


def test_metric_that_fails_leaves_the_saved_records(start, model, bench, tmp_path, monkeypatch):
    setting, whole = resolved(OURS, model), bench.metrics
    before = start(setting)

    def fails(*given):
        raise RuntimeError("broken package")

    bench.metrics = {**whole, "broken": replace(whole["mse"], name="broken", compute=fails)}
    monkeypatch.setattr(editors.Ours, "edit", fails)
    with pytest.raises(BadInput, match=r"A metric fails for the saved edit of .*RuntimeError: broken package"):
        start(setting)
    bench.metrics = whole
    assert json.dumps(start(setting)) == json.dumps(before)  # nan is not equal to itself
    bench.metrics = {name: each for name, each in whole.items() if name != "mse"}


def test_seconds_include_planning(monkeypatch):
    """Planning encodes images and prompts; the measured time of diffusers' pipelines includes this as well."""
    clock = iter((10.0, 17.0))
    monkeypatch.setattr(editors.time, "perf_counter", lambda: next(clock))
    report = {"seconds": 1.0, "network_evaluations": {"samples": 4}}
    done = SimpleNamespace(result=SimpleNamespace(pixels=[], report=report))
    model = SimpleNamespace(plan=lambda *given, **options: SimpleNamespace(run=lambda: done))
    assert editors.Ours(model, OURS).edit([], []).seconds == 7


def test_edit_of_a_replaced_image_is_made_again(start, model, tmp_path):
    """A record without a stamp of its image is kept."""
    setting = resolved(Setting(UNCHANGED, UNCHANGED), model)

    def run():
        return start(setting, items=PieBench(tmp_path / "pie").items)

    def replaced(seed):
        small.tiny_image(small.SIDE, small.SIDE, seed=seed).save(images[1], quality=95)

    first, images = run(), sorted((tmp_path / "pie").rglob("*.jpg"))
    replaced(7)
    second = run()
    assert [a["stamp"] == b["stamp"] for a, b in zip(first, second, strict=True)] == [True, False, True]
    shown = edited_image_path(tmp_path / "out", setting.key, "111000000001")
    assert np.array_equal(np.asarray(Image.open(shown)), np.asarray(Image.open(images[1])))
    journal = tmp_path / "out" / NAME
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    journal.write_text("".join(json.dumps({k: v for k, v in each.items() if k != "stamp"}) + "\n" for each in lines))
    replaced(8)
    assert not any("stamp" in each for each in run())


def test_interrupted_run_is_resumed(start, model, monkeypatch):
    """Ctrl-C interrupts the second edit; the first one is not made again."""
    setting, original, calls = resolved(OURS, model), editors.Ours.edit, []

    def edit(self, items, images):
        calls.append(items[0].name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(self, items, images)

    monkeypatch.setattr(editors.Ours, "edit", edit)
    with pytest.raises(KeyboardInterrupt):
        start(setting, batch=1)
    records = start(setting, batch=1)
    assert calls == ["000000000000", "111000000001", "111000000001", "111000000002"]
    assert all("error" not in record for record in records)


def test_invalid_item_is_recorded_without_stopping_the_run(start, model, bench, evaluator):
    setting = resolved(OURS, model)
    long = replace(bench.items[1], name="long", target_text="word " * 200)
    records = start(setting, items=[bench.items[0], broken(), long, bench.items[2]])
    assert ["error" in record for record in records] == [False, True, True, False]
    assert records[1]["error"] == "OSError: the disk is on fire"
    assert "token" in records[2]["error"]
    lines = summarise([setting], [bench.items[0], broken(), long, bench.items[2]], records, bench.metrics)
    assert (lines[0].finished, lines[0].failed) == (2, 2)


def test_text_too_long_for_the_evaluator_is_recorded_before_the_edit(start, model, bench, evaluator, monkeypatch):
    """The text fits the model, but not the dual encoder; the other edits are made once, in one batch."""
    setting, made, original = resolved(OURS, model), [], editors.Ours.edit
    text = "a " * 60
    model.condition([text], (small.SIDE, small.SIDE))
    with pytest.raises(BadInput, match="tokens and the dual encoder accepts at most"):
        evaluator.clip.check_texts([text])

    def edit(self, items, images):
        made.append([item.name for item in items])
        return original(self, items, images)

    monkeypatch.setattr(editors.Ours, "edit", edit)
    items = [bench.items[0], replace(bench.items[1], target_text=text), bench.items[2]]
    records = start(setting, items=items)
    assert made == [["000000000000", "111000000002"]]
    assert ["error" in record for record in records] == [False, True, False]
    assert "the dual encoder accepts at most" in records[1]["error"]


def test_failed_scores_do_not_repeat_the_edits(start, model, bench, monkeypatch):
    """A batch that cannot be scored is scored one by one; an edit that cannot be scored fails alone."""
    setting, made, scored = resolved(OURS, model), [], []
    original, evaluate = editors.Ours.edit, runner.evaluate

    def edit(self, items, images):
        made.append(original(self, items, images))
        return made[-1]

    def fails(evaluator, metrics, items, images, edits, *more):
        scored.append([item.name for item in items])
        if "111000000001" in scored[-1]:
            raise RuntimeError("out of memory")
        return evaluate(evaluator, metrics, items, images, edits, *more)

    monkeypatch.setattr(editors.Ours, "edit", edit)
    monkeypatch.setattr(runner, "evaluate", fails)
    records = start(setting)
    names = [item.name for item in bench.items]
    assert scored == [names, *([name] for name in names)]
    assert len(made) == 1
    assert [record.get("error") for record in records] == [None, "RuntimeError: out of memory", None]
    assert records[0]["evaluations"] == records[2]["evaluations"] == made[0].evaluations / 3
    error = np.square((bench.items[2].load().source / 255) - made[0].pixels[2] / 255).mean()
    assert records[2]["scores"]["mse"] == pytest.approx(error, rel=1e-5)


def test_texts_are_scored_without_prompt_weights(tiny_sd_folder, bench, evaluator, tmp_path):
    weighted = sfumato.load(tiny_sd_folder, prompt_weights=True)
    plain, setting = bench.items[1], resolved(Setting(UNCHANGED, UNCHANGED), weighted)
    item = replace(plain, name="weighted", source_text="a (dog:1.8)", target_text="a (green:0.5) dog")

    def scores(model, *items):
        with Journal(tmp_path / str(id(model)), ABOUT) as journal:
            runs = Runner(bench, items, model, evaluator, journal, tmp_path / str(id(model)))
            return [record["scores"] for record in runs.run([setting])]

    found, expected = scores(weighted, item, plain)
    assert found == pytest.approx(expected, nan_ok=True)
    literal = scores(sfumato.load(tiny_sd_folder), item)[0]
    assert literal["clip_similarity_target_image"] != pytest.approx(expected["clip_similarity_target_image"], rel=1e-3)
    assert literal["clip_similarity_source_image"] != pytest.approx(expected["clip_similarity_source_image"], rel=1e-3)


def test_unknown_blend_word_is_rejected_before_the_inversion(start, model):
    params = {"steps": 3, "skip": 1, "source_guidance_scale": 1.0, "guidance_scale": 2.0, "blend": "zebra"}
    with model.network.counting() as count:
        records = start(resolved(Setting("blend", "prompt-to-prompt", params), model))
    assert all('"zebra" of blend' in record["error"] for record in records)
    assert count.calls == 0


def test_failed_items_are_tried_again(start, model, bench):
    setting, item = resolved(OURS, model), bench.items[0]
    assert "error" in start(setting, items=[broken(item.name)])[0]
    assert "error" not in start(setting, items=[item])[0]


def test_editor_that_cannot_be_loaded_fails_only_its_row(start, model, bench, monkeypatch):
    def refuse(task):
        raise ValueError("no such pipeline")

    monkeypatch.setitem(editors._CONTENDERS, "diffusers-img2img", refuse)
    records = start(resolved(SDEDIT, model), resolved(OURS, model), items=bench.items[:1])
    assert records[0]["error"] == "ValueError: no such pipeline"
    assert "error" not in records[1]


def test_limit_alternates_between_kinds(bench):
    items = [replace(bench.items[0], name=str(n), kind="abbb"[n % 4]) for n in range(12)]
    assert [item.kind for item in limited(items, 5)] == ["a", "b", "a", "b", "a"]
    assert limited(items, 4) == limited(items, 7)[:4]
    assert len(limited(items, None)) == len(limited(items, 99)) == 12
