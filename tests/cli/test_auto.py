"""`sfumato edit --auto`: the setting with the least change among those that reach the wanted CLIP similarity."""

from functools import cache

import pytest

import sfumato as library
from sfumato.api import auto
from sfumato.api.auto_grid import GUIDANCE_SCALES, SKIPPED, Grid
from sfumato.api.trial import Trial, least_change, measured
from sfumato.errors import BadInput
from sfumato.geometry import counting_passes
from sfumato.images import to_tensor
from sfumato.metrics import Evaluator
from sfumato.metrics.evaluator import SHIPPED
from sfumato.models.diffusion_model import DiffusionModel
from tests.metrics.test_text import save_clip
from tests.tiny import tiny_image

WORDS = ("photo.png", "--from", "red apple", "--to", "green apple", "-o", "out.png", "--steps", 10)
CLIP = ("--clip", SHIPPED)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    save_clip(folder)
    return folder


@cache
def shipped():
    """The shipped evaluator, loaded once."""
    return Evaluator.load()


def choose(*arguments, evaluator=None, **options):
    """`auto.choose` with the shipped evaluator by default, because tiny models have none."""
    return auto.choose(*arguments, evaluator=evaluator or shipped(), **options)


@pytest.fixture(scope="module")
def inverted(tiny_sd_folder):
    return library.load(str(tiny_sd_folder)).invert(tiny_image(32, 32), "red cat", steps=10)


def test_search_ends_at_first_level_that_reaches_the_adherence(inverted):
    easy, hard = (choose(inverted, "green dog", adherence=wanted) for wanted in (-0.99, 0.99))
    assert easy.reached
    assert easy.tried == len(GUIDANCE_SCALES)
    assert easy.trial.options["skip"] == round(SKIPPED[0] * 10)
    assert not hard.reached
    assert hard.tried == 2 * len(SKIPPED[::2])  # every second level, with two guidance scales
    smallest = choose(inverted, "green dog", adherence=-0.99, skip=3)
    assert set(smallest.trial.options) == {"guidance_scale"}


def test_reached_agrees_with_the_default_adherence(inverted):
    choice = choose(inverted, "green dog", skip=2)
    assert choice.tried == len(GUIDANCE_SCALES)
    assert choice.reached == (choice.trial.scores["clip"] >= choice.wanted)


@pytest.mark.parametrize("method", ["prompt-to-prompt", "pix2pix-zero", "colour"])
def test_grid_uses_the_defaults_of_the_edit_method(inverted, method):
    """Not those of the method of the inversion, whose default guidance scale differs."""
    named = (method, {"colour": "blue"}) if method == "colour" else method
    used = inverted.edit("green cat", methods=[named]).report["parameters"]["guidance_scale"][0]
    assert used != inverted.params.guidance_scale or method == "colour"
    grid = Grid.of(inverted, "green cat", None, {"methods": [named]}, print)
    assert grid.guidance_scales == [factor * used for factor in GUIDANCE_SCALES]
    assert [level["skip"] for level in grid.levels] == sorted({round(share * 10) for share in SKIPPED}, reverse=True)
    with pytest.raises(BadInput, match=f"{method} has no setting to choose"):
        choose(inverted, "green cat", methods=[named], skip=2, guidance_scale=3.0)


def test_prompt_weights_are_removed_before_scoring(tiny_sd_folder):
    """As in the report of an edit, the evaluator receives the prompts without their weights."""
    model = library.load(str(tiny_sd_folder), prompt_weights=True)
    inverted = model.invert(tiny_image(32, 32), "(red:1.4) cat", steps=5)
    choice, evaluator = choose(inverted, "(green:1.3) dog", skip=2), shipped()
    image = inverted.edited_images[0]
    for trial in choice.table:
        scores = measured(evaluator, image, trial.result, None, ("red cat", "green dog"))[trial.row]
        assert trial.scores == pytest.approx(scores, nan_ok=True)
    pixels = (to_tensor(image) + 1) / 2
    assert choice.wanted == pytest.approx(float(evaluator.clip.score(pixels, ["red cat"])))
    assert choose(inverted, "(green:1.3) " * 8 + "dog", skip=2, adherence=-0.99).reached, "9 words, not 57 tokens"


def test_result_reports_moves_of_the_chosen_edit_only(tiny_sd_folder):
    model = library.load(str(tiny_sd_folder))
    inverted = model.invert(tiny_image(32, 32), "red cat", method="pullback", steps=4)
    with counting_passes() as passes:
        choice = choose(inverted, "green dog", adherence=-0.99, skip=0, time=0.5)
    assert len(choice.trial.result) == len(GUIDANCE_SCALES)
    result, expected = choice.result, inverted.edit("green dog", time=0.5, skip=0, **choice.trial.options)
    (own,), (alone,) = result.report["moves"], expected.report["moves"]
    assert own["distance"] == pytest.approx(alone["distance"], rel=1e-2)
    assert own == result.recipes[0]["moves"]
    assert "jacobian_passes" not in result.report, "they are part of the cost of the choice"
    assert choice.report["jacobian_passes"] == passes.products
    per_row = {name for name, value in choice.trial.result.report.items() if isinstance(value, list)} - {"notes"}
    assert all(len(result.report[name]) == 1 for name in per_row)


def test_invalid_choices_are_rejected(inverted, tiny_ddpm_folder):
    with pytest.raises(BadInput, match="no setting to choose"):
        choose(inverted, "green dog", skip=2, guidance_scale=3.0)
    with pytest.raises(BadInput, match="target prompt"):
        choose(inverted, " ")
    with pytest.raises(BadInput, match='"star" of mask_words'):
        choose(inverted, "green dog", mask_words="star")
    with pytest.raises(BadInput, match="between -1 and 1"):
        choose(inverted, "green dog", adherence=3.0)
    blind = library.load(str(tiny_ddpm_folder)).invert(tiny_image(32, 32), steps=4)
    with pytest.raises(BadInput, match="needs a model with text"):
        choose(blind, "")


def test_reported_cost_covers_all_settings(inverted):
    with inverted.model.network.counting() as count:
        choice = choose(inverted, "green dog", adherence=0.99)
    assert choice.report["network_evaluations"] == {"calls": count.calls, "samples": count.samples}
    assert count.samples == 2 * sum(10 - trial.options["skip"] for trial in choice.table)
    assert choice.report["seconds"] > 0


@pytest.mark.parametrize("wanted", [-0.99, 0.99])
def test_result_equals_a_single_edit_with_the_chosen_setting(inverted, wanted):
    choice = choose(inverted, "green dog", adherence=wanted)
    expected = inverted.edit("green dog", **choice.trial.options)
    assert choice.result.recipes == expected.recipes
    assert abs(choice.result.pixels[0].astype(int) - expected.pixels[0]).max() <= 1  # another batch size
    cost = {"seconds", "network_evaluations", "metrics"}
    assert {name: value for name, value in choice.result.report.items() if name not in cost} == {
        name: value for name, value in expected.report.items() if name not in cost
    }
    for name, (value,) in expected.report["metrics"].items():
        assert choice.result.report["metrics"][name] == [pytest.approx(value, abs=0.05)]
    assert choice.result.report["network_evaluations"] == {"calls": 0, "samples": 0}


def test_missing_source_prompt_requires_explicit_adherence(tiny_sd_folder):
    """The similarity to an empty text is no useful default: the unchanged image reaches it."""
    inverted = library.load(str(tiny_sd_folder)).invert(tiny_image(32, 32), steps=4)
    with pytest.raises(BadInput, match="Without a source prompt"):
        choose(inverted, "green dog")
    assert choose(inverted, "green dog", adherence=-0.99).reached


def test_prompts_longer_than_the_evaluator_context_are_rejected(inverted):
    with inverted.model.network.counting() as count, pytest.raises(BadInput, match="has 42 tokens"):
        choose(inverted, "red " * 40)
    assert count.samples == 0


def test_levels_that_skip_the_method_window_are_excluded(tiny_sd_folder):
    model = library.load(str(tiny_sd_folder))
    inverted = model.invert(tiny_image(32, 32), "red cat", method="colour", steps=10)
    high = choose(inverted, "red cat", adherence=-0.99, guidance_scale=1.0, first=700, last=999)  # 901, 801, 701
    assert high.trial.options["skip"] == 2


def test_command_reports_the_chosen_setting(sfumato, tiny_sd_folder):
    run = sfumato("edit", *WORDS, "--model", tiny_sd_folder, "--auto", "-0.9", *CLIP, "--json")
    assert run.code == 0, run.err
    assert run.json["parameters"]["skip"] == 8
    assert any("auto: skip 8" in note for note in run.json["notes"])
    assert "which reaches -0.90; 3 settings tried." in run.err
    run = sfumato("edit", *WORDS, "--model", tiny_sd_folder, "--auto", "0.99", *CLIP)
    assert "auto: none of 8 settings reaches the CLIP similarity 0.99; the nearest is skip" in run.err


def test_reported_evaluations_include_the_trials(sfumato, tiny_sd_folder):
    found = sfumato("edit", *WORDS, "--model", tiny_sd_folder, "--auto", "-0.9", *CLIP, "--json").json
    # guidance pairs: 10 steps to invert, 2 for each guidance scale, 10 to check the reconstruction; the chosen edit is
    # that of the search
    assert found["network_evaluations"] == 2 * (10 + 2 * len(GUIDANCE_SCALES) + 10)
    assert found["reconstruction_latent_max_error"] < 1e-3


def test_prompt_weights_do_not_count_towards_the_evaluator_context(sfumato, tiny_sd_folder):
    words = ("--from", "(red:1.4) " * 8, "--to", "(green:1.4) " * 8, "--steps", 4, "--skip", 2, "--prompt-weights")
    words = ("photo.png", *words, "--model", tiny_sd_folder, *CLIP)
    run = sfumato("edit", *words, "-o", "out.png", "--auto", "-0.9")
    assert run.code == 0, run.err
    run = sfumato("sweep", *words, "-o", "swept", "--grid", "guidance=2,5")
    assert run.code == 0, run.err


def test_clip_option_selects_the_evaluator(sfumato, tiny_sd_folder, clip):
    words = ("edit", *WORDS, "--model", tiny_sd_folder, "--auto", "-0.9")
    other, own = sfumato(*words, *CLIP), sfumato(*words, "--clip", clip)
    assert own.code == 0, own.err
    model = library.load(str(tiny_sd_folder))
    inverted = model.invert("photo.png", "red apple", steps=10)
    choice = choose(inverted, "green apple", adherence=-0.9, evaluator=Evaluator.load(clip))
    scores = f"{choice.trial.scores['clip']:.2f}, LPIPS to the source {choice.trial.scores['lpips']:.2f}"
    assert f"CLIP similarity {scores}" in own.err
    assert own.err != other.err


def test_saved_inversion_needs_a_source_prompt(sfumato, tiny_sd_folder):
    model = ("--model", tiny_sd_folder)
    for prompt, code in (("red apple", 0), ("", 2)):
        sfumato("invert", "photo.png", "--from", prompt, "-o", "x.safetensors", "--steps", 4, *model)
        run = sfumato(
            "edit", "x.safetensors", "--to", "green apple", "-o", "out.png", "--auto", "--skip", 2, *CLIP, *model
        )
        assert run.code == code, run.err
    assert "but --from is empty" in run.err


def test_invalid_evaluator_input_is_rejected_before_the_inversion(sfumato, tiny_sd_folder, monkeypatch):
    monkeypatch.setattr(DiffusionModel, "_forward", lambda *_: pytest.fail("the network was evaluated"))
    words = ("edit", "photo.png", "--from", "red", "--to", "red " * 40, "-o", "out.png", "--model", tiny_sd_folder)
    assert "has 42 tokens and the dual encoder accepts at most" in sfumato(*words, "--auto", *CLIP).refused()
    assert "--clip" in sfumato("edit", "--auto", "--help").out
    assert "nowhere is not a folder" in sfumato(*words, "--auto", "--clip", "nowhere").refused()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--auto", "7"), "between -1 and 1"),
        (("--auto", "--seeds", "2"), "one --seed"),
        (("--auto", "--skip", "2", "--guidance", "3"), "no setting to choose: leave --skip or --guidance out"),
        (("--clip", "."), "--clip names a network that scores edits for --auto"),
        (("--lpips", "."), "--lpips names a network that scores edits for --auto"),
    ],
)
def test_invalid_options_are_rejected_before_loading_the_model(sfumato, words, sentence):
    assert sentence in sfumato("edit", *WORDS, "--model", "nosuch", *words).refused()


def test_command_requires_a_source_prompt(sfumato):
    words = ("edit", "photo.png", "--to", "green apple", "-o", "out.png", "--model", "nosuch", "--auto")
    assert "but --from is empty" in sfumato(*words).refused()


def test_model_without_evaluator_requires_clip_option(sfumato, tiny_sd_folder, inverted, monkeypatch):
    """The error is raised before the diffusion network is evaluated."""
    with inverted.model.network.counting() as count, pytest.raises(BadInput, match="--clip"):
        auto.choose(inverted, "green dog")
    assert count.samples == 0
    monkeypatch.setattr(DiffusionModel, "_forward", lambda *_: pytest.fail("the network was evaluated"))
    assert "no dual encoder that scores edits" in sfumato("edit", *WORDS, "--model", tiny_sd_folder, "--auto").refused()


LEVELS = sorted({round(share * 10) for share in SKIPPED}, reverse=True)


@pytest.fixture(scope="module")
def separately(tiny_sd_folder):
    """By method: an inversion, and a function that edits it with one setting; each edit is made once."""

    @cache
    def of(method):
        inverted = library.load(str(tiny_sd_folder)).invert(tiny_image(32, 32), "red cat", method=method, steps=10)

        @cache
        def edited(level, scale):
            guidance_scale = GUIDANCE_SCALES[scale] * inverted.params.guidance_scale
            setting = {"skip": LEVELS[level], "guidance_scale": guidance_scale}
            result = inverted.edit("green dog", **setting)
            scores = measured(shipped(), inverted.edited_images[0], result, None, ("red cat", "green dog"))[0]
            return Trial(3 * level + scale, setting, result.pixels[0], scores, result, 0)

        return inverted, edited

    return of


@pytest.mark.parametrize("wanted", [-0.99, 0.05, 0.99])
@pytest.mark.parametrize("method", ["edit-friendly", "ddim", "plug-and-play"])
def test_search_matches_separate_single_edits(separately, method, wanted):
    """Every setting is edited separately: table and choice are equal, although the search edits levels in one batch."""
    inverted, edited = separately(method)
    choice = choose(inverted, "green dog", adherence=wanted)
    table = {}
    for level in range(0, len(LEVELS), 2):
        table |= {(level, scale): edited(level, scale) for scale in (0, 2)}
        if any(trial.scores["clip"] >= wanted for trial in table.values()):
            table[level, 1] = edited(level, 1)
            table |= {(level - 1, scale): edited(level - 1, scale) for scale in range(3) if level}
            break
    table = [trial for _, trial in sorted(table.items())]
    assert choice.trial.options == least_change(table, wanted).options
    assert [trial.options for trial in choice.table] == [trial.options for trial in table]
    for ours, theirs in zip(choice.table, table, strict=True):
        assert ours.index == theirs.index
        assert abs(ours.pixels.astype(int) - theirs.pixels).max() <= 1
        for name in ("clip", "lpips"):
            assert ours.scores[name] == pytest.approx(theirs.scores[name], abs=2e-3)


class Scored(Grid):
    """A grid with given scores in place of edits."""

    def _try(self, settings):
        for level, scales in settings.items():
            for scale in scales:
                scores = {"clip": self.options["scores"][level][scale]}
                self.trials.setdefault(level, {})[scale] = Trial(3 * level + scale, {}, None, scores, None, 0)


@pytest.mark.parametrize("levels", range(1, 9))
@pytest.mark.parametrize("best", [0, 2])
def test_search_matches_exhaustive_search_for_monotonic_scores(levels, best):
    """Both find the same first level; the best guidance scale is the smallest or the largest of the grid."""
    scores = [[level / levels - (scale != best) * 0.5 / levels for scale in range(3)] for level in range(levels)]
    for wanted in [row[best] for row in scores] + [2.0]:
        grid = Scored(None, "", None, [{}] * levels, [1.0, 2.0, 3.0], {"scores": scores}, lambda *_: None)
        tried = grid.search(wanted)
        reached = {trial.index // 3 for trial in tried if trial.scores["clip"] >= wanted}
        exhaustive = {level for level in range(levels) if max(scores[level]) >= wanted}
        assert min(reached, default=None) == min(exhaustive, default=None)
        assert len(tried) <= grid._most()


def test_levels_share_network_batches(inverted):
    """With 10 steps, the levels skip = 8 and skip = 6 run alone, and skip = 4 and skip = 2 in one batch of 8 calls."""
    with inverted.model.network.counting() as count:
        choose(inverted, "green dog", adherence=0.99)
    assert count.calls == 2 + 4 + 8
