"""`papers/geometry.py` on a tiny random model: it runs, goes on, and judges what it measured."""

import json

import pytest

from papers import geometry
from papers.latent_geometry import claims


@pytest.fixture(scope="module", params=["sd", "ddpm"])
def measured(request, tiny_folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("paper")
    page = out / "page.md"
    page.write_text("above\n<!-- measured: begin -->\n<!-- measured: end -->\nbelow\n")
    words = ["--model", str(tiny_folder(request.param)), "--quick", "--out", str(out / "o"), "--page", str(page)]
    assert geometry.main(words) == 0
    return request.param, out, words


def test_every_claim_is_measured(measured):
    layout, out, _ = measured
    numbers = json.loads((out / "o/numbers.json").read_text())
    assert len(numbers["claims"]) == (17 if layout == "sd" else 15)
    assert all(isinstance(claim["holds"], bool) for claim in numbers["claims"])
    assert numbers["paths"]["pairs"] == 2
    assert len(numbers["paths"]["kinds"]["slerp"]["semantic"]["by_segment"]) == 3
    for each in numbers["change"]["times"]:
        assert len(each["density"]) == len(each["frequency"])
        assert 0 < each["low_share"] < 1
    page = (out / "page.md").read_text()
    assert page.startswith("above")
    assert page.rstrip().endswith("below")
    assert "| the paper says | measured | holds |" in page
    for figure in geometry.FIGURES:
        assert (out / "o" / figure).stat().st_size > 1000
        assert (out / f"page-{figure}").is_file()


def test_what_is_measured_is_kept(measured, monkeypatch, capsys):
    """A second run evaluates nothing; one of another size measures again what depends on it."""
    from sfumato.models.diffusion_model import DiffusionModel

    _, out, words = measured
    before = (out / "o/fragment.md").read_text()

    def refuse(*given):
        raise AssertionError("evaluated again")

    with monkeypatch.context() as patch:
        patch.setattr(DiffusionModel, "_forward", refuse)
        assert geometry.main(words) == 0
        with pytest.raises(AssertionError, match="evaluated again"):
            geometry.main([*words, "--gamma", "3"])
    assert (out / "o/fragment.md").read_text() == before


def test_a_part_depends_on_what_it_asks_for(measured):
    _, out, _ = measured
    asked = {
        name: json.loads((out / f"o/parts/{name}.json").read_text())["belongs"]["asked"] for name in ("local", "edits")
    }
    assert {"samples", "n", "times", "steps"} <= set(asked["local"])
    assert not {"gamma", "pairs", "judge"} & set(asked["local"])
    assert {"gamma", "directions", "judge"} <= set(asked["edits"])


def test_parts_without_what_they_asked_for_are_measured_again(measured, tmp_path, monkeypatch):
    """As an older version wrote them, or of fields that are no more."""
    _, out, words = measured
    part = out / "o/parts/local.json"
    kept, calls = part.read_text(), []
    for belongs in ({"size": {}}, json.loads(kept)["belongs"] | {"asked": {"no_such_field": 1}}):
        part.write_text(json.dumps({"belongs": belongs, "numbers": {}}))
        with monkeypatch.context() as patch:
            patch.setattr(geometry.local, "measure", lambda study: calls.append(study) or json.loads(kept)["numbers"])
            assert geometry.main(words) == 0
    part.write_text(kept)
    assert len(calls) == 2


def test_a_claim_can_fail():
    times = [{"time": 1.0, "low_share": 0.2, "effective_dimension": 5.0, "overlap": [0.3] * 5}]
    times.append({"time": 0.25, "low_share": 0.6, "effective_dimension": 3.0, "overlap": [0.5] * 5})
    assert [c.holds for c in claims._of_local({"times": times, "chance": [0.4] * 5})] == [False] * 4
    assert [c.holds for c in claims._of_timing({"times": times})] == [False]
    assert [c.holds for c in claims._of_change({"times": times})] == [False]


def test_bad_input(capsys):
    assert geometry.main(["--samples", "1"]) == 2
    assert "--samples must be at least 3" in capsys.readouterr().err


def test_a_small_difference_is_none():
    times = [{"time": 1.0, "low_share": 0.60, "effective_dimension": 3.0, "overlap": [0.50] * 5}]
    times.append({"time": 0.25, "low_share": 0.59, "effective_dimension": 3.1, "overlap": [0.49] * 5})
    assert [c.holds for c in claims._of_local({"times": times, "chance": [0.1] * 5})] == [False, False, True, False]
    assert [c.holds for c in claims._of_timing({"times": times})] == [False]
