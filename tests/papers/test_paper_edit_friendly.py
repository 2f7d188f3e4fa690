"""The script for the edit-friendly paper, from the command line to the page, on a tiny random model."""

import json
from argparse import Namespace

import numpy as np
import pytest
from PIL import Image

from papers import edit_friendly, page
from papers.ddpm_noise_space import claims, comparison, recolouring, shifting
from sfumato.errors import BadInput
from tests.tiny import tiny_image

pytestmark = pytest.mark.slow

PAGE = f"before\n{page.BEGIN}\noutdated\n{page.END}\nafter\n"


@pytest.fixture(scope="module")
def written(tiny_sd2_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("edit_friendly")
    target, image = folder / "page.md", folder / "image.png"
    target.write_text(PAGE)
    tiny_image(24, 32).save(image)
    words = ["--model", str(tiny_sd2_folder), "--out", str(folder / "out"), "--quick", "--seeds", "2"]
    words += ["--images", str(image), "--from", "red apple", "--to", "green apple"]
    assert edit_friendly.main([*words, "--source-guidance", "1.5", "--page", str(target)]) == 0
    return folder


def test_figures_are_drawn_and_copied(written):
    for name in edit_friendly.FIGURES:
        with Image.open(written / "out" / name) as figure:
            assert min(figure.size) > 100
            assert len(figure.convert("L").resize((64, 64)).getcolors(4096)) > 2
        assert (written / f"page-{name}").read_bytes() == (written / "out" / name).read_bytes()


def test_numbers_contain_all_measurements(written):
    numbers = json.loads((written / "out/numbers.json").read_text())
    maps = numbers["noise_maps"]
    assert len(maps["edit-friendly"]["variance"]) == len(maps["timesteps"]) == 10
    assert maps["edit-friendly"]["median_variance"] > maps["native"]["median_variance"]
    assert maps["edit-friendly"]["mean_correlation"] < -0.3
    assert maps["sampling"]["median_variance"] == pytest.approx(1, abs=0.2)
    rows = numbers["reconstruction"]
    assert {(row["prediction"], row["width"]) for row in rows} == {
        (kind, width) for kind in ("epsilon", "v_prediction") for width in (32, 40)
    }
    for row in rows:
        assert row["exact_max"] <= 1e-6
        assert row["official_max"] >= row["official_rms"] > 1e-3
    (edit,) = numbers["edits"]
    assert len(edit["edit-friendly"]["ssim"]) == 2
    assert edit["reconstruction_latent_max_error"] < 1e-4
    assert edit["edit-friendly"]["distance_between_seeds"] > 0
    (shift,), (colour,), compared = numbers["shifting"], numbers["colour"], numbers["comparison"]
    assert set(shift) == {"source", *shifting.STARTS}
    assert all(set(shift[start]) == {"edit-friendly", "native"} for start in shifting.STARTS)
    assert len(colour["sdedit"]) == len(recolouring.LEVELS)
    assert set(compared) == set(comparison.settings())
    assert {"edit-friendly", "sdedit", "prompt-to-prompt, ddim", "prompt-to-prompt, edit-friendly"} <= set(compared)
    over_both = sum(row.endswith(", ddim") for row in compared)
    assert len(numbers["claims"]) == 13 + over_both


def test_measurements_are_inserted_into_the_page(written):
    text = (written / "page.md").read_text()
    fragment = (written / "out/fragment.md").read_text()
    assert text == f"before\n{page.BEGIN}\n{fragment}{page.END}\nafter\n"
    assert fragment.count("\n| epsilon |") == 2
    assert "outdated" not in text


def test_page_without_markers_is_refused(tmp_path):
    (tmp_path / "page.md").write_text("nothing")
    with pytest.raises(BadInput, match="measured: begin"):
        page.insert(tmp_path / "page.md", "x")


def test_page_is_checked_before_the_measurement(tmp_path, capsys):
    missing = tmp_path / "page.md"
    assert page.reported("x.py", Namespace(page=missing), lambda given: pytest.fail("measured")) == 2
    assert f"x.py: {missing} must be a page that has the lines" in capsys.readouterr().err


def test_images_need_prompts(capsys):
    assert edit_friendly.main(["--from", "x"]) == 2
    assert "--from and --to are prompts of --images" in capsys.readouterr().err
    assert edit_friendly.main(["--images", "a.png", "b.png", "--from", "x", "--to", "y"]) == 2
    assert "one prompt each for every one of the 2 images" in capsys.readouterr().err


def test_claims_fail_for_contradicting_numbers():
    rows = [{"exact_max": 1e-7, "default_max": 2e-5, "official_max": 0.1, "official_rms": 0.04}]
    ours, theirs = claims._of_reconstruction(rows)
    assert not ours.holds
    assert not theirs.holds
    flat = {"variance": [1.0] * 4, "correlation": [0.0] * 3, "median_variance": 1.0, "mean_correlation": 0.0}
    evaluated = claims._of_noise_maps({"edit-friendly": flat, "native": flat, "sampling": flat})
    assert [claim.holds for claim in evaluated] == [False, False, True]


@pytest.mark.parametrize(
    ("ssim", "structure", "holds"),
    [
        ([0.6, 0.5, 0.55, 0.6], [0.10, 0.11, 0.09, 0.10], True),
        ([0.6, 0.5, 0.55, 0.6], [0.16, 0.15, 0.17, 0.16], False),
        ([0.41, 0.43, 0.42, 0.7], [0.10, 0.11, 0.09, 0.10], False),
    ],
    ids=["both", "the structure distance is larger", "SSIM within the error"],
)
def test_structure_claim_needs_both_measures(ssim, structure, holds):
    """A higher SSIM for every image is not enough."""
    native = [0.40, 0.42, 0.41, 0.43]
    edits = [
        {
            "source_similarity": 0.5,
            "edit-friendly": {"ssim": [a], "similarity": [0.6], "distance_between_seeds": 9.0},
            "native": {"ssim": [b]},
        }
        for a, b in zip(ssim, native, strict=True)
    ]
    compared = {"edit-friendly": {"structure": structure}, "native-ddpm": {"structure": [0.14, 0.15, 0.14, 0.14]}}
    found = claims._of_edits(edits, compared)
    assert [claim.holds for claim in found] == [holds, True, True]
    assert found[0].measured.endswith("n = 4")


def test_claims_on_shifting_and_colour_can_fail():
    worse, better = {"psnr": 8.0}, {"psnr": 20.0}
    first, second = shifting.STARTS
    lost = {"edit-friendly": worse, "native": better}
    moved = claims._of_shifting([{first: lost, second: {"edit-friendly": better, "native": worse}}])
    assert [claim.holds for claim in moved] == [False, True]
    levels = [{"colour": 80.0, "texture": 0.1}, {"colour": 22.0, "texture": 0.9}]
    edit = {"before": {"colour": 10.0}, "ours": {"colour": 20.0, "texture": 0.5}, "sdedit": levels}
    assert recolouring.at_equal_colour(edit) == levels[1]
    assert [claim.holds for claim in claims._of_colour([edit])] == [False, False]


@pytest.mark.parametrize(
    ("lpips", "clip", "holds"), [(0.5, 0.6, True), (0.5, 0.5, False), (0.7, 0.6, False), (0.5, 0.59, True)]
)
def test_comparison_claim_needs_lower_lpips_and_similar_clip(lpips, clip, holds):
    rows = {"p, edit-friendly": {"lpips": [lpips], "clip": [clip]}, "p, ddim": {"lpips": [0.7], "clip": [0.6]}}
    (claim,) = claims._of_comparison(rows)
    assert claim.holds is holds


def test_subject_mask_excludes_the_white_background():
    image = np.full((4, 6, 3), 255, np.uint8)
    image[1:3, 2:5, 0] = 200
    assert recolouring.subject(image).sum() == 6
