"""Metrics of style transfer against their definitions."""

from dataclasses import replace

import pytest
import torch

from sfumato.errors import BadInput, NonFinite
from sfumato.metrics import METRICS, Evaluator, feature_distance
from sfumato.metrics.perceptual import PerceptualDistance, load_perceptual
from sfumato.metrics.style import COLOURS, chamfer_distance, colours
from sfumato.metrics.vision import VisionEncoder
from tests.metrics.encoders import image_pair, save
from tests.style.small import style_encoder

STYLE = ["style_mse", "chamfer", "sifid"]


@pytest.fixture(scope="module")
def evaluator(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vit")
    save("vit", folder)
    shipped = Evaluator.load()
    return Evaluator(shipped.clip, VisionEncoder(folder), load_perceptual(str(folder)), style_encoder())


@pytest.fixture(scope="module")
def images():
    source, edit = image_pair(seed=4)
    draw = torch.Generator().manual_seed(9)
    return source, edit, [torch.rand(3, 12 + 8 * n, 20, generator=draw) for n in range(3)]


def scores(evaluator, images, names=STYLE):
    source, edit, style = images
    batch = evaluator.batch(source, edit, style=style)
    return {name: METRICS[name].compute(batch) for name in names}


def test_style_mse_is_that_of_the_style_descriptors(evaluator, images):
    """Descriptors of the centre squares, as in an index; here no square has the size of the encoder's input."""
    _, edit, style = images

    def square(x):
        side = min(x.shape[-2:])
        return torch.stack([x[..., (x.shape[-2] - side) // 2 + n, :] for n in range(side)], dim=-2)[
            ..., torch.arange(side) + (x.shape[-1] - side) // 2
        ]

    assert any(each.shape[1] != each.shape[2] for each in style)
    own = evaluator.style.image_features(square(edit)).double()
    wanted = torch.cat([evaluator.style.image_features(square(each)[None]) for each in style]).double()
    expected = (own - wanted).pow(2).sum(1) / own.shape[1]
    torch.testing.assert_close(scores(evaluator, images)["style_mse"], expected)
    cosine = (own * wanted).sum(1)  # unit vectors: |a - b|^2 = 2 - 2 cos
    torch.testing.assert_close(expected, (2 - 2 * cosine) / own.shape[1], rtol=1e-5, atol=1e-7)


def test_chamfer_distance_uses_nearest_neighbours(evaluator, images):
    found = scores(evaluator, images)["chamfer"]
    for value, edit, style in zip(found, images[1], images[2], strict=True):
        a, b = (each.flatten(1).T.double() for each in (edit, style))
        there, back = (torch.stack([(x - y).pow(2).sum(1).min() for x in one]) for one, y in ((a, b), (b, a)))
        assert value.item() == pytest.approx((there.mean() + back.mean()).item(), rel=1e-9)


def test_chamfer_distance_depends_only_on_colours(images):
    image = images[0][0]
    mixed = image.flatten(1)[:, torch.randperm(image[0].numel(), generator=torch.Generator().manual_seed(0))]
    assert chamfer_distance(colours(image), colours(mixed.reshape(image.shape))).item() == 0
    white, grey = torch.ones(3, 4, 4), torch.full((3, 9, 5), 0.5)
    assert chamfer_distance(colours(white), colours(grey)).item() == pytest.approx(2 * 3 * 0.25)


def test_colours_of_large_images_are_sampled_on_a_grid():
    image = torch.arange(3 * 300 * 200).reshape(3, 300, 200) / (3 * 300 * 200)
    found = colours(image)
    assert found.shape == (COLOURS * COLOURS, 3)
    torch.testing.assert_close(found[[0, -1]], torch.stack([image[:, 0, 0], image[:, -1, -1]]).double())
    assert len(found.unique(dim=0)) == len(found)


def test_sifid_is_the_frechet_distance_of_the_finest_features(evaluator, images):
    found = scores(evaluator, images)["sifid"]
    for value, edit, style in zip(found, images[1], images[2], strict=True):
        a, b = (evaluator.perceptual.network(2 * each[None] - 1)[0][0].flatten(1).T for each in (edit, style))
        assert value.item() == pytest.approx(feature_distance(a, b), rel=1e-6)


def test_distance_of_an_image_to_itself_is_zero(evaluator, images):
    source, edit, _ = images
    found = scores(evaluator, (source, edit, list(edit)))
    for name in STYLE:
        assert found[name].abs().max() < 1e-9, name


def test_content_mse_is_that_of_the_image_features():
    evaluator = Evaluator.load()
    draw = torch.Generator().manual_seed(2)
    source, edit = torch.rand(2, 2, 3, 64, 96, generator=draw)
    for cut in (slice(None), slice(16, 80)):
        images = [each[..., cut] for each in (source, edit)]
        squares = [each[..., 16:80] for each in (source, edit)]  # an index contains their descriptors
        a, b = (evaluator.clip.image_features(each).double() for each in squares)
        batch = evaluator.batch(*images, style=list(edit))
        found = METRICS["content_mse"].compute(batch)
        torch.testing.assert_close(found, (a - b).pow(2).mean(1), rtol=1e-5, atol=1e-9)
    assert "style_mse" not in evaluator(source[..., :64], edit[..., :64], style=list(edit)), "there is no style encoder"


def test_too_small_image_has_no_sifid(evaluator, images):
    source, edit, style = images
    small = replace(evaluator, perceptual=PerceptualDistance(evaluator.perceptual.network, smallest=15))
    found = METRICS["sifid"].compute(small.batch(source, edit, style=style))
    assert found.isnan().tolist() == [True, False, False]


def test_invalid_style_images_are_refused(evaluator, images):
    source, edit, style = images
    with pytest.raises(BadInput, match="one style image for each of the 3 images"):
        evaluator.batch(source, edit, style=style[:2])
    with pytest.raises(NonFinite):
        evaluator.batch(source, edit, style=[style[0] / 0, *style[1:]])
    with pytest.raises(BadInput, match="point sets"):
        chamfer_distance(torch.zeros(0, 3), torch.zeros(2, 3))
