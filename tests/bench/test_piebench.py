"""The layout and evaluation rules of PIE-Bench, on a tiny synthetic copy."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sfumato.bench.evaluating import evaluate, stacked
from sfumato.bench.items import ItemImages
from sfumato.bench.piebench import IMAGES, MAPPING, PieBench, decode_mask
from sfumato.bench.piebench_metrics import PUBLISHED
from sfumato.errors import BadInput
from sfumato.metrics import structure_distance
from tests.bench import small
from tests.bench.small import SIDE, square


@pytest.fixture(scope="module")
def evaluator(tmp_path_factory):
    return small.evaluator(tmp_path_factory.mktemp("clip"))


@pytest.fixture
def bench(tmp_path):
    return PieBench(small.layout(tmp_path))


def test_entries_are_read_as_edits(bench):
    assert [item.name for item in bench.items] == ["000000000000", "111000000001", "111000000002"]
    assert [item.kind for item in bench.items] == ["random", "change object", "change object"]
    assert bench.items[0].source_text == "a red apple"
    assert bench.items[1].target_text == "a green dog"
    found = bench.items[0].load()
    assert found.source.shape == (SIDE, SIDE, 3)
    assert found.target is None
    expected = square()
    expected[[0, -1]] = expected[:, [0, -1]] = True
    assert np.array_equal(found.mask, expected)


@given(st.lists(st.tuples(st.integers(0, 34), st.integers(0, 12)), max_size=5))
def test_mask_is_decoded_from_runs_with_a_border(pairs):
    flat = [False] * 35
    for start, length in pairs:
        for place in range(start, min(start + length, 35)):
            flat[place] = True
    found = decode_mask([x for pair in pairs for x in pair], 5, 7)
    for y in range(5):
        for x in range(7):
            assert found[y, x] == (flat[7 * y + x] or y in (0, 4) or x in (0, 6))


@pytest.mark.parametrize("runs", [[1], [-1, 2], [1.5, 2], [True, 2], ["a", 2], [35, 1]])
def test_invalid_masks_are_refused(runs):
    with pytest.raises(BadInput, match="its mask"):
        decode_mask(runs, 5, 7)


def test_published_metrics_follow_the_official_rules(bench, evaluator):
    items = bench.items[:2]
    images = [item.load() for item in items]
    edits = [small.blurred(each.source) for each in images]
    found = evaluate(evaluator, PUBLISHED, items, images, edits)
    assert list(found) == list(PUBLISHED)
    for n, (item, each, edit) in enumerate(zip(items, images, edits, strict=True)):
        mask = np.repeat(each.mask[..., None], 3, 2).astype(float)
        a, b = each.source / 255 * (1 - mask), edit / 255 * (1 - mask)
        error = np.mean((a - b) ** 2)
        assert found["mse_unedit_part"][n] == pytest.approx(error, rel=1e-5)
        assert found["psnr_unedit_part"][n] == pytest.approx(-10 * np.log10(error), rel=1e-5)
        shown, inside = (
            torch.from_numpy(x).permute(2, 0, 1)[None].float() for x in (edit / 255, np.uint8(edit * mask) / 255)
        )
        whole = evaluator.clip.score(shown, [item.target_text]).item()
        part = evaluator.clip.score(inside, [item.target_text]).item()
        assert found["clip_similarity_target_image"][n] == pytest.approx(100 * max(whole, 0), abs=1e-3)
        assert found["clip_similarity_target_image_edit_part"][n] == pytest.approx(100 * max(part, 0), abs=1e-3)


def test_published_structure_distance_uses_grey_levels(bench, evaluator):
    """An encoder whose mean and std are divided by 255 computes (255 x - mean) / std."""
    items = bench.items[:2]
    images = [item.load() for item in items]
    edits = [small.blurred(each.source) for each in images]
    scores = evaluate(evaluator, bench.metrics, items, images, edits)
    a, b = stacked([each.source for each in images]), stacked(edits)
    of_levels = deepcopy(evaluator.structure)
    of_levels.mean /= 255
    of_levels.std /= 255
    expected = structure_distance(of_levels, a, b)
    assert scores["structure_distance"] == pytest.approx(expected.tolist(), rel=1e-3)
    assert scores["structure"] == structure_distance(evaluator.structure, a, b).tolist()
    assert scores["structure_distance"] != pytest.approx(scores["structure"], rel=0.05)


def test_unedited_part_mse_is_averaged_over_the_whole_image(bench, evaluator):
    item = bench.items[0]
    images = item.load()
    edit = small.blurred(images.source)
    scores = evaluate(evaluator, bench.metrics, [item], [images], [edit])
    share = 1 - images.mask.mean()
    assert scores["mse_unedit_part"][0] == pytest.approx(share * scores["outside_mse"][0], rel=1e-5)
    assert scores.keys() == bench.metrics.keys()


def test_full_mask_gives_nan_for_the_unedited_part(bench, evaluator):
    item = bench.items[2]
    images = item.load()
    assert images.mask.all()
    scores = evaluate(evaluator, bench.metrics, [item], [images], [small.blurred(images.source)])
    for name in ("psnr", "lpips", "mse", "ssim"):
        assert np.isnan(scores[f"{name}_unedit_part"]).all()
    assert np.isnan(scores["outside_mse"]).all()
    assert np.isfinite(scores["clip_similarity_target_image_edit_part"]).all()


@pytest.mark.parametrize(("height", "width"), [(10, 40), (40, 6), (5, 40), (11, 11)])
def test_ssim_of_small_images_is_nan(bench, evaluator, height, width):
    """Windows of 11 pixels must fit into the image, and a padding of 5 pixels is reflected at its border."""
    pixels = np.random.default_rng(0).integers(0, 256, (2, height, width, 3), dtype=np.uint8)
    images = ItemImages(pixels[0], mask=np.eye(height, width, dtype=bool))
    scores = evaluate(evaluator, bench.metrics, bench.items[:1], [images], [pixels[1]])
    assert scores.keys() == bench.metrics.keys()
    smallest = min(height, width)
    assert np.isnan(scores["ssim_unedit_part"][0]) == np.isnan(scores["ssim"][0]) == (smallest < 11)
    assert np.isnan(scores["ssim_unedit_part_with_border"][0]) == (smallest < 6)
    assert np.isfinite([scores[f"{name}_unedit_part"][0] for name in ("mse", "psnr", "lpips")]).all()


def test_changed_mapping_file_changes_the_identity(tmp_path):
    first = PieBench(small.layout(tmp_path)).identity
    assert PieBench(tmp_path).identity == first
    assert PieBench(small.layout(tmp_path, more={"original_prompt": "a"})).identity != first


@pytest.mark.parametrize("text", [None, "not json", "[1, 2]", "3"])
def test_folders_in_another_layout_are_refused(tmp_path, text):
    if text is not None:
        (tmp_path / MAPPING).write_text(text)
    with pytest.raises(BadInput, match="is not PIE-Bench"):
        PieBench(tmp_path)


def test_images_of_another_size_than_the_masks_are_refused(tmp_path, monkeypatch):
    """The folder if its first readable image has another size, otherwise the edit."""
    small.layout(tmp_path)
    first, second, _ = sorted((tmp_path / IMAGES).rglob("*.jpg"))
    with Image.open(second) as image:
        image.resize((SIDE, SIDE - 8)).save(second)
    items = PieBench(tmp_path).items
    assert items[0].load().mask.shape == (SIDE, SIDE)
    with pytest.raises(BadInput, match="edit 111000000001: its image has 32 x 24 pixels, but the masks are encoded"):
        items[1].load()
    first.write_bytes(b"damaged")
    with pytest.raises(BadInput, match="is not PIE-Bench: edit 111000000001: its image has 32 x 24 pixels"):
        PieBench(tmp_path)
    monkeypatch.undo()
    with pytest.raises(BadInput, match="encoded for 512 x 512: give the published images"):
        PieBench(small.layout(tmp_path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_path": "../../secret.png"}, "inside annotation_images"),
        ({"image_path": "/etc/passwd"}, "inside annotation_images"),
        ({"image_path": "0_some_edits/nothing.jpg"}, "does not exist"),
        ({"image_path": "0_some\0edits.jpg"}, "edit bad: its image_path must be text"),
        ({"image_path": 3}, "edit bad: its image_path must be text"),
        ({"editing_prompt": "a \ud800"}, "edit bad: its editing_prompt must be text"),
        ({"original_prompt": None}, "edit bad: its original_prompt must be text"),
        ({"mask": "all"}, "its mask must be a list"),
        ({"mask": [0, 1, 2]}, "edit bad: its mask"),
        ({"mask": [10**9, 1]}, "begins at pixel"),
    ],
)
def test_invalid_entry_fails_when_its_edit_is_loaded(tmp_path, change, message):
    good = small.entry("000000000000", 0, "a", "b", square())
    items = PieBench(small.layout(tmp_path, bad=good | change)).items
    assert len(items) == 4
    with pytest.raises(BadInput, match=message):
        items[3].load()


@pytest.mark.parametrize("entry", [3, None, "text", [["image_path", "a.jpg"]]])
def test_entry_that_is_not_an_object_fails_its_edit(tmp_path, entry):
    items = PieBench(small.layout(tmp_path, bad=entry)).items
    assert [item.name for item in items][2:] == ["111000000002", "bad"]
    assert items[3].stamp == ""
    with pytest.raises(BadInput, match="edit bad: it must be a JSON object"):
        items[3].load()


@pytest.mark.parametrize("name", ["../x", "a/b", "", "n" * 260, "ü" * 150, "\ud800"])
def test_invalid_edit_name_fails_its_edit(tmp_path, name):
    good = small.entry("000000000000", 0, "a", "b", square())
    items = PieBench(small.layout(tmp_path, **{name: good})).items
    assert len(items) == 4
    items[3].name.encode()
    with pytest.raises(BadInput, match="its name must be letters"):
        items[3].load()


def test_stamp_changes_with_the_image_file(bench, tmp_path):
    def stamps():
        return [item.stamp for item in PieBench(tmp_path).items]

    first = [item.stamp for item in bench.items]
    assert len(set(first)) == 3
    assert stamps() == first
    images = sorted((tmp_path / IMAGES).rglob("*.jpg"))
    images[0].write_bytes(images[1].read_bytes())
    second = stamps()
    assert [a == b for a, b in zip(first, second, strict=True)] == [False, True, True]
    images[2].unlink()
    assert stamps() == [second[0], first[1], ""]
