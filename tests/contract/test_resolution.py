"""Images of other sizes than the model's: edited at the model's size, returned at their own with their detail."""

import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from sfumato.api.finish import finished
from sfumato.api.notes import size_note
from sfumato.api.resolution import MARGIN, edited_size
from sfumato.errors import BadInput
from sfumato.images import Mask, read_image, resized, resized_pixels
from sfumato.images.upsampling import upsampled_edit
from tests.tiny import tiny_image

RUN = {"steps": 4, "skip": 1}
PROMPTS = ("red cat", "blue dog")


@pytest.fixture(scope="module")
def photo():
    """Ten times the pixels of the training images, with fine texture."""
    rng = np.random.default_rng(0)
    pixels = np.asarray(tiny_image(120, 90, seed=5)).astype(float) + rng.normal(0, 14, (90, 120, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


class Network:
    """The attributes of a network that `edited_size` uses."""

    def __init__(self, native, multiple):
        self.native_size, self.multiple = native, multiple


STABLE, SMALL = Network((512, 512), 64), Network((64, 64), 16)


@pytest.mark.parametrize("network", [STABLE, SMALL])
@pytest.mark.parametrize("size", [(4000, 3000), (3000, 4000), (6000, 4000), (1920, 1080), (1000, 1000), (2000, 300)])
@pytest.mark.parametrize("resolution", [None, "native", 256])
def test_large_images_are_reduced_near_the_model_size(network, size, resolution):
    width, height = edited_size(network, resolution, size)
    area = 256**2 if resolution == 256 else network.native_size[0] * network.native_size[1]
    grid = network.multiple
    assert width % grid == 0 or height % grid == 0
    assert abs(width / height - size[0] / size[1]) <= 0.5 * (1 + size[0] / size[1]) / height
    seen = -(-width // grid) * grid * (-(-height // grid) * grid)
    assert area / 2 < seen <= MARGIN * area


@pytest.mark.parametrize(
    ("size", "resolution", "expected"),
    [
        ((4000, 3000), "full", (4000, 3000)),
        ((700, 700), None, (700, 700)),  # 1.9 times the pixels
        ((730, 730), None, (512, 512)),
        ((512, 512), "native", (512, 512)),
        ((560, 500), "native", (560, 500)),
        ((100, 100), None, (100, 100)),
        ((100, 100), "native", (512, 512)),
        ((4000, 3000), 1024, (1280, 960)),
        ((512, 512), 256, (256, 256)),
    ],
)
def test_edited_size_of_small_images_and_chosen_resolutions(size, resolution, expected):
    assert edited_size(STABLE, resolution, size) == expected


def test_large_image_is_returned_at_its_own_size(sd, photo):
    inverted = sd.invert(photo, PROMPTS[0], **RUN)
    assert inverted.groups[0].size == (40, 30)
    result = inverted.edit(PROMPTS[1])
    assert result.pixels[0].shape == (90, 120, 3)
    assert result.sources[0].size == (120, 90)
    recipe, about = result.recipes[0], inverted.report["images"][0]
    assert (recipe["resolution"], recipe["edited_size"]) == ("native", [40, 30])
    assert (about["size"], about["edited_size"]) == ([120, 90], [40, 30])
    assert result.images[0].size == (120, 90)
    by_hand = sd.invert(Image.fromarray(resized_pixels(np.asarray(photo), (40, 30))), PROMPTS[0], **RUN).edit(
        PROMPTS[1]
    )
    assert by_hand.report["metrics"]["autoencoder_psnr"] == result.report["metrics"]["autoencoder_psnr"]
    assert by_hand.report["metrics"]["edit_psnr"] == pytest.approx(result.report["metrics"]["edit_psnr"], abs=0.7)


def test_full_size_change_equals_the_upsampled_edit(sd, photo):
    """Compared with the edit of the reduced image, upsampled to the full size."""
    result = sd.invert(photo, PROMPTS[0], **RUN).edit(PROMPTS[1])
    small = resized_pixels(np.asarray(photo), (40, 30))
    edited = sd.invert(Image.fromarray(small), PROMPTS[0], **RUN).edit(PROMPTS[1]).pixels[0]
    as_tensor = lambda pixels: torch.from_numpy(pixels.copy()).permute(2, 0, 1) / 127.5 - 1  # noqa: E731
    (_, pixels), *_ = upsampled_edit(as_tensor(edited), as_tensor(small), np.asarray(photo))
    expected = ((pixels + 1) * 127.5).round().clamp(0, 255).permute(1, 2, 0).numpy()
    assert np.abs(expected - result.pixels[0]).mean() < 1  # levels of the reduced edit are rounded here


def test_null_edit_reproduces_the_large_image(sd, photo):
    inverted = sd.invert(photo, PROMPTS[0], exact=True, source_guidance_scale=1.0, **RUN)
    made = inverted.edit(PROMPTS[0], guidance_scale=1.0, skip=0).pixels[0]
    assert np.abs(made.astype(int) - np.asarray(photo)).max() <= 1
    made = inverted.reconstruct(residual=True).pixels[0]
    assert np.abs(made.astype(int) - np.asarray(photo)).max() <= 1


def test_mask_keeps_outside_unchanged_and_greys_blend(sd, photo):
    weights = np.zeros((90, 120), np.uint8)
    weights[20:70, 30:90] = 255
    weights[20:70, 60:90] = 128
    inverted = sd.invert(photo, PROMPTS[0], **RUN)
    original, made = np.asarray(photo), inverted.edit(PROMPTS[1], mask=Image.fromarray(weights)).pixels[0]
    assert (made[weights == 0] == original[weights == 0]).all()
    assert (made[weights == 255] != original[weights == 255]).any()
    assert (
        np.abs(made.astype(int) - original)[weights == 128].mean()
        < np.abs(made.astype(int) - original)[weights == 255].mean()
    )
    small = np.zeros_like(weights)
    small[40, 60] = 255  # one pixel of the photo covers a ninth of an edited pixel
    made = inverted.edit(PROMPTS[1], mask=Image.fromarray(small)).pixels[0]
    assert (made != original).any(axis=-1).sum() <= 1


def test_change_is_gradual_at_the_mask_border():
    """A black image is edited to white at a tenth of its size, with a mask of the left half."""
    black = np.zeros((80, 80, 3), np.uint8)
    image = resized(read_image(Image.fromarray(black)), (8, 8))
    mask = np.zeros((80, 80), np.float32)
    mask[:, :40] = 1
    made = finished(torch.ones(3, 8, 8), -torch.ones(3, 8, 8), image, Mask(mask, ""))[..., 0].astype(int)
    assert not made[:, 40:].any()
    assert (made[:, :30] > 250).all()
    assert abs(np.diff(made, axis=1)).max() < 50


@pytest.mark.parametrize("region", [{"mask_words": "cat", "mask_threshold": 0.6}, {"mask_difference": True}])
def test_region_keeps_part_of_the_photo_unchanged(sd, photo, region):
    made = sd.invert(photo, PROMPTS[0], **RUN).edit(PROMPTS[1], **region).pixels[0]
    same = (made == np.asarray(photo)).all(axis=-1)
    assert 0.05 < same.mean() < 0.995


def test_saved_and_pickled_edits_keep_the_resolution(sd, photo, tmp_path):
    inverted = sd.invert(photo, PROMPTS[0], **RUN)
    made = inverted.edit(PROMPTS[1])
    inverted.save(tmp_path / "photo.safetensors")
    opened = sd.open(tmp_path / "photo.safetensors")
    assert opened.groups[0].size == (40, 30)
    again = opened.edit(PROMPTS[1])
    assert (again.pixels[0] == made.pixels[0]).all()
    assert again.recipes[0]["resolution"] == "native"
    assert (sd.open(tmp_path / "photo.safetensors", photo).edit(PROMPTS[1]).pixels[0] == made.pixels[0]).all()
    plan = sd.plan(photo, *PROMPTS, resolution=48, **RUN)
    moved = pickle.loads(pickle.dumps(plan)).on(sd)
    assert moved.sources.groups[0].size == plan.sources.groups[0].size == (56, 42)


def test_images_of_several_sizes_in_one_call(sd, photo):
    large = photo.resize((240, 180))
    result = sd.invert([photo, large, tiny_image(32, 32)], "red cat", **RUN).edit("blue dog")
    assert [pixels.shape[:2] for pixels in result.pixels] == [(90, 120), (180, 240), (32, 32)]
    assert [recipe["resolution"] for recipe in result.recipes] == ["native", "native", "full"]


def test_alpha_of_the_photo_is_kept(sd, photo, tmp_path):
    alpha = Image.fromarray(np.tile(np.linspace(0, 255, 120).astype(np.uint8), (90, 1)))
    with_alpha = photo.copy()
    with_alpha.putalpha(alpha)
    with_alpha.save(tmp_path / "photo.png")
    result = sd.invert(tmp_path / "photo.png", PROMPTS[0], **RUN).edit(PROMPTS[1])
    result.save(tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as out:
        assert (out.mode, out.size) == ("RGBA", (120, 90))
        assert (np.asarray(out)[..., 3] == np.asarray(alpha)).all()


@pytest.mark.parametrize("resolution", ["large", 0, 4, -64, 9000, 2.5, True, [64]])
def test_invalid_resolutions_are_refused(sd, photo, resolution):
    before = sd.network.count.samples
    with pytest.raises(BadInput, match="resolution must be native, full or an integer from 8 to 8192"):
        sd.plan(photo, *PROMPTS, resolution=resolution, **RUN)
    assert sd.network.count.samples == before


def test_size_note_contains_both_sizes(sd):
    network = sd.network
    note = size_note(network, "a.png", (4000, 3000), (40, 30))
    assert "4000 x 3000 pixels and is edited at 40 x 30, near the 32 x 32" in note
    assert "far from" in size_note(network, "a.png", (4000, 3000), (400, 300))
    assert size_note(network, "a.png", (40, 30), (40, 30)) == ""
    assert "--resolution native" in size_note(network, "a.png", (4000, 3000), (4000, 3000))


@pytest.mark.parametrize("layout", ["sdxl", "ddpm"])
def test_large_images_on_other_layouts(models, layout, photo):
    model = models(layout)
    text = PROMPTS[0] if model.network.takes_text else ""
    result = model.invert(photo, text, steps=3).edit(text, guidance_scale=1.0)
    assert result.pixels[0].shape == (90, 120, 3)
    assert read_image(result.images[0]).size == (120, 90)


def test_small_image_is_edited_at_a_larger_size(sd):
    small = tiny_image(20, 14)
    inverted = sd.invert(small, PROMPTS[0], resolution="native", exact=True, source_guidance_scale=1.0, **RUN)
    width, height = inverted.groups[0].size
    assert width * height > 2 * 20 * 14
    made = inverted.edit(PROMPTS[1]).pixels[0]
    assert made.shape == (14, 20, 3)
    assert (made != np.asarray(small)).any()
    same = inverted.edit(PROMPTS[0], guidance_scale=1.0, skip=0).pixels[0]
    assert np.abs(same.astype(int) - np.asarray(small)).max() <= 1
