"""Scenes: positions of objects, captions, and that scene i depends only on the seed and i."""

from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfumato.data.dataset import CaptionedImages
from sfumato.data.emoji import build
from sfumato.data.scenes import Scenes
from sfumato.data.scenes.captions import caption, listing, related, relation, varied
from sfumato.data.scenes.dataset import HELD_OUT_COUNT
from sfumato.data.scenes.grounds import GROUNDS, lost_share
from sfumato.data.scenes.layout import MOST_OBJECTS, SMALLEST, arrange
from sfumato.data.scenes.scene import compose
from sfumato.data.splits import split_of
from sfumato.errors import BadInput
from tests.data import fake

SIZE = 64
SHAPES = st.tuples(st.integers(1, 128), st.integers(1, 128))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("corpus")
    for style in ("noto", "twemoji"):
        fake.iconify(root, style, fake.many(76) | {"1f34e": "red-apple", "1f44d": "thumb", "1f44d-1f3ff": "thumb-d"})
    build(root / "out", cache=root, styles=["noto", "twemoji"], size=SIZE, workers=1)
    return root / "out"


@pytest.fixture(scope="module")
def scenes(corpus) -> Scenes:
    return Scenes(CaptionedImages.open(corpus, SIZE, split="train"), corpus, 200, seed=3)


@given(st.lists(SHAPES, min_size=1, max_size=MOST_OBJECTS), st.integers(0, 1 << 30), st.sampled_from([32, 100, 128]))
def test_boxes_fit_the_canvas_without_overlap_and_keep_aspect(shapes, seed, size):
    boxes = arrange(shapes, size, np.random.default_rng(seed))
    for (left, top, right, bottom), (width, height) in zip(boxes, shapes, strict=True):
        assert 0 <= left < right <= size
        assert 0 <= top < bottom <= size
        longest = max(right - left, bottom - top)
        assert longest >= SMALLEST * size - 2
        expected = longest * min(width, height) / max(width, height)
        assert abs(min(right - left, bottom - top) - max(1, expected)) <= 2
    for a, b in combinations(boxes, 2):
        assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


def test_single_object_sizes_range_up_to_the_canvas():
    sides = [arrange([(1, 1)], 100, np.random.default_rng(seed))[0] for seed in range(300)]
    widths = [right - left for left, _, right, _ in sides]
    assert min(widths) < 40
    assert max(widths) > 95


@pytest.mark.parametrize("count", [0, MOST_OBJECTS + 1])
def test_invalid_number_of_objects_is_rejected(count):
    with pytest.raises(BadInput, match=rf"a scene has 1 to 4 objects of at least 35% of the canvas, not {count}"):
        arrange([(1, 1)] * count, 128, np.random.default_rng(0))


@given(st.integers(0, 1 << 30))
def test_relations_are_true_and_antisymmetric(seed):
    a, b = arrange([(3, 4), (5, 2)], 128, np.random.default_rng(seed))
    said = relation(a, b)
    holds = {"left of": a[2] <= b[0], "right of": b[2] <= a[0], "above": a[3] <= b[1], "below": b[3] <= a[1]}
    assert holds[said]
    opposite = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
    assert relation(b, a) == opposite[said]


def test_relation_uses_the_axis_of_larger_centre_distance():
    assert relation((0, 0, 10, 10), (50, 20, 60, 30)) == "left of"
    assert relation((0, 0, 10, 10), (20, 50, 30, 60)) == "above"
    assert relation((0, 0, 10, 10), (9, 20, 99, 30)) == "above", "they overlap horizontally"


def test_captions_of_scenes():
    assert listing(["a"]) == "a"
    assert listing(["a", "b"]) == "a and b"
    assert listing(["a", "b", "c"]) == "a, b and c"
    assert caption(["cat face"], "blue", "fluent-flat") == "cat face on blue, fluent-flat"
    assert caption(["red heart"], "", "") == "red heart"
    boxes = [(0, 0, 10, 10), (20, 0, 30, 10)]
    assert related(["red heart", "cat face"], boxes, "", "noto") == "red heart left of cat face, noto"


def test_varied_captions_use_every_pattern():
    boxes = [(0, 0, 10, 10), (20, 0, 30, 10)]
    draw = np.random.default_rng(0)
    found = {varied(["fox", "car"], [["animal"], []], boxes, "red", "noto", draw)[0] for _ in range(400)}
    assert found == {
        f"{fox} {word} car on red{style}"
        for fox in ("fox", "animal") for word in ("and", "left of") for style in (", noto", "")
    }  # fmt: skip


def test_object_is_visible_exactly_inside_its_mask():
    cutout = np.zeros((8, 8, 4), np.uint8)
    cutout[:, 4:] = (200, 0, 0, 255)
    image, (mask,) = compose([cutout], [(10, 20, 18, 28)], "blue", 40)
    expected = np.zeros((40, 40), bool)
    expected[20:28, 14:18] = True
    assert np.array_equal(mask, expected)
    assert (image.transpose(1, 2, 0)[expected] == (200, 0, 0)).all()
    assert (image.transpose(1, 2, 0)[~expected] == GROUNDS["blue"]).all()


def test_transparent_pixels_do_not_colour_the_edges():
    cutout = np.full((16, 16, 4), (0, 255, 0, 0), np.uint8)  # green, but fully transparent
    cutout[4:12, 4:12] = (255, 255, 255, 255)
    image, _ = compose([cutout], [(0, 0, 7, 7)], "", 8)
    assert (image >= 254).all()


def test_lost_share_detects_backgrounds_of_equal_colour():
    share = dict(zip(GROUNDS, lost_share(np.full((9, 9, 4), (*GROUNDS["red"], 255), np.uint8)), strict=True))
    assert share["red"] == 1
    assert share["green"] == share["blue"] == 0
    assert not lost_share(np.zeros((3, 3, 4), np.uint8)).any()


def test_scene_depends_only_on_seed_and_index(corpus, scenes):
    images = scenes.single_images
    again, other = Scenes(images, corpus, 9, seed=3), Scenes(images, corpus, 9, seed=4)
    for i in (8, 0, 5):
        assert np.array_equal(again.scene(i).image, scenes.scene(i).image)
        assert again.scene(i).caption == scenes.scene(i).caption
    assert any(not np.array_equal(other.scene(i).image, scenes.scene(i).image) for i in range(3))


def test_scenes_have_one_to_three_objects_of_one_style(scenes):
    found = [scenes.scene(i) for i in range(200)]
    assert {len(scene.objects) for scene in found} == {1, 2, 3}
    assert 0.25 < np.mean([scene.ground != "" for scene in found]) < 0.5
    for scene in found:
        assert scene.image.shape == (3, SIZE, SIZE)
        assert {each.file.split("/")[1] for each in scene.objects} == {scene.style}
        assert len({each.file for each in scene.objects}) == len(scene.objects)
        for each in scene.objects:
            left, top, right, bottom = each.box
            assert each.mask[top:bottom, left:right].sum() == each.mask.sum() > 0
            assert each.name in scene.caption
        colour = GROUNDS.get(scene.ground, (255, 255, 255))
        outside = ~np.any([_box_mask(each.box) for each in scene.objects], axis=0)
        assert (scene.image.transpose(1, 2, 0)[outside] == colour).all()


def _box_mask(box) -> np.ndarray:
    mask = np.zeros((SIZE, SIZE), bool)
    mask[box[1] : box[3], box[0] : box[2]] = True
    return mask


def test_items_are_images_followed_by_scenes(scenes):
    alone = len(scenes.single_images)
    assert len(scenes) == alone + 200
    assert scenes.caption(3) == scenes.single_images.captions[3]
    assert np.array_equal(scenes.pixels([0, alone + 7])[0], scenes.single_images.images[0])
    assert np.array_equal(scenes.pixels([0, alone + 7])[1], scenes.scene(7).image)
    assert scenes.caption(alone + 7) == scenes.scene(7).caption


@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
def test_share_option_sets_the_weight_of_scenes(corpus, scenes, share):
    images = scenes.single_images
    assert scenes.sampling_weights()[: len(images)].sum() == pytest.approx(0.5)
    weights = Scenes(images, corpus, 9, share=share).sampling_weights()
    assert weights[: len(images)] == pytest.approx((1 - share) * images.sampling_weights())
    assert weights[len(images) :] == pytest.approx(np.full(9, share / 9))
    assert Scenes(images, corpus, 0, share=share).sampling_weights() == pytest.approx(images.sampling_weights())


def test_caption_names_the_objects_and_the_background(scenes):
    draw = np.random.default_rng(0)
    alone = len(scenes.single_images)
    for i in range(100):
        scene = scenes.scene(i)
        words = scenes.caption(alone + i, draw)
        for each in scene.objects:
            assert any(word in words for word in (each.name, *each.keywords))
        assert (f" on {scene.ground}" in words) == bool(scene.ground)


def test_keyword_of_many_emoji_is_not_used(scenes):
    used = [set(words) for words in scenes._keywords]
    assert "face" not in set().union(*used)


def test_sampling_probability_is_equal_per_content(scenes):
    rows, chances = scenes._by_style["noto"]
    content = [scenes._rows[row]["untoned"] for row in rows]
    by_content = {key: sum(p for p, c in zip(chances, content, strict=True) if c == key) for key in content}
    assert all(a == pytest.approx(b) for a, b in pairwise(by_content.values()))


def test_held_out_scenes_use_only_held_out_images(corpus):
    for split in ("test", "cells"):
        found = Scenes.held_out(corpus, split, SIZE)
        assert found.count == HELD_OUT_COUNT
        assert {split_of(row["base"], row["style"]) for row in found._rows} == {split}


def test_a_folder_without_cut_outs_is_refused(tmp_path):
    from tests.train.conftest import write_image_folder

    folder = write_image_folder(tmp_path / "own")
    with pytest.raises(BadInput, match="has no cut-outs to compose scenes of"):
        Scenes(CaptionedImages.open(folder, 32), folder, 5)
