"""Ranks of prompts among other captions, by generated images."""

import json

import pytest
import torch

from sfumato.metrics import DualEncoder
from sfumato.models.load import load_model
from sfumato.train import prompt_report as module
from sfumato.train.dataset import open_images
from sfumato.train.recipe import load_recipe
from tests.train.test_held_out import corpus, tasks  # noqa: F401 (fixtures)
from tests.train.test_report import pipeline  # noqa: F401 (a fixture)


@pytest.fixture(scope="module")
def parts(pipeline):  # noqa: F811
    folder, recipe = pipeline
    return load_model(folder, "cpu"), DualEncoder.load(folder / "dual_encoder"), load_recipe(recipe, "diffusion")


def test_ranks_follow_the_similarities(parts):
    """The rank of each prompt by sorting all similarities, for prompts of which one is a training caption itself."""
    model, evaluator, recipe = parts
    captions = list(dict.fromkeys(open_images(recipe, "train").captions))
    prompts = [captions[0], "a red apple", "face"]
    figures, drawn = module.prompt_report(model, evaluator, recipe, prompts, 3.0, 1)
    assert drawn.shape == (3, 3, 32, 32)
    others = [caption for caption in captions if caption not in prompts]
    assert figures["candidates"] == 1 + len(others) > 2
    images = evaluator.image_features(drawn)
    data = open_images(recipe, None)
    known = [data.captions[::-1].index(caption) if caption in data.captions else None for caption in prompts]
    for i, (row, place) in enumerate(zip(figures["prompts"], known, strict=True)):
        texts = [prompts[i], *others]
        order = sorted_by_similarity(evaluator, texts, images[i])
        found = {"prompt": prompts[i], "rank": 1 + order.index(0), "best": texts[order[0]], "real rank": None}
        if place is not None:
            real = torch.from_numpy(data.images[::-1][place].copy())[None].float() / 255
            order = sorted_by_similarity(evaluator, texts, evaluator.image_features(real)[0])
            found["real rank"] = 1 + order.index(0)
        assert row == found
    assert known[0] is not None
    assert known[1] is None
    assert figures["recognised"] == sum(row["rank"] == 1 for row in figures["prompts"])


def sorted_by_similarity(evaluator, texts, image):
    similarities = (evaluator.text_features(texts) @ image).tolist()
    return sorted(range(len(texts)), key=lambda k: -similarities[k])


def test_tie_does_not_count_as_recognised(parts, monkeypatch):
    model, evaluator, recipe = parts
    for name in ("text_features", "image_features"):
        monkeypatch.setattr(DualEncoder, name, lambda _, given: torch.ones(len(given), 1))
    figures, _ = module.prompt_report(model, evaluator, recipe, ["face"], 3.0, 1)
    assert figures["prompts"][0]["rank"] == figures["candidates"]
    assert figures["recognised"] == 0


def test_the_command_writes_and_prints_the_ranks(pipeline, tmp_path, capsys):  # noqa: F811
    folder, recipe = pipeline
    (tmp_path / "prompts.txt").write_text("face 1, noto\n\n  red apple  \n")
    given = ["--recipe", str(recipe), "--prompts", str(tmp_path / "prompts.txt"), "--out", str(tmp_path / "out.json")]
    assert module.main([str(folder), *given, "--steps", "1", "--grid", str(tmp_path / "grid.png")]) == 0
    figures = json.loads((tmp_path / "out.json").read_text())
    assert [row["prompt"] for row in figures["prompts"]] == ["face 1, noto", "red apple"]
    printed = capsys.readouterr().out
    assert f"{figures['recognised']} of 2 first among {figures['candidates']}" in printed
    assert (tmp_path / "grid.png").stat().st_size > 0


def test_grid_in_no_folder_is_refused_before_the_model_is_loaded(
    pipeline,  # noqa: F811
    tmp_path,
    capsys,
    monkeypatch,
):
    monkeypatch.setattr("sfumato.train.report_options.load_model", None)
    given = [str(pipeline[0]), "--recipe", str(pipeline[1]), "--prompts", "p.txt", "--out", str(tmp_path / "out.json")]
    with pytest.raises(SystemExit):
        module.main([*given, "--grid", str(tmp_path / "nowhere" / "grid.png")])
    assert "nowhere does not exist" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "words"),
    [("\n", "no prompt"), ("face " * 200, "too long for the evaluator"), (None, "check the path")],
)
def test_invalid_list_of_prompts_is_refused(pipeline, tmp_path, capsys, text, words):  # noqa: F811
    folder, recipe = pipeline
    if text is not None:
        (tmp_path / "prompts.txt").write_text(text)
    given = ["--recipe", str(recipe), "--prompts", str(tmp_path / "prompts.txt"), "--out", str(tmp_path / "out.json")]
    with pytest.raises(SystemExit) as caught:
        module.main([str(folder), *given])
    assert caught.value.code == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out.json").exists()
