"""The evaluator returns the values of the single metrics, and NaN where a metric is undefined."""

import math

import pytest
import torch

from sfumato.errors import BadInput
from sfumato.metrics import (
    METRICS,
    SHIPPED,
    Evaluator,
    VisionEncoder,
    directional_similarity,
    lpips,
    mse,
    psnr,
    ssim,
    structure_distance,
)
from tests.metrics import encoders
from tests.metrics.encoders import image_pair
from tests.metrics.test_text import save_clip

GIVEN, WANTED = ["a red apple", "a cat", "a dog"], ["a green apple", "a dog", "a star"]


@pytest.fixture(scope="module")
def evaluator(tmp_path_factory):
    clip, structure = (tmp_path_factory.mktemp(name) for name in ("clip", "dino"))
    save_clip(clip)
    encoders.save("dinov2", structure)
    return Evaluator.load(clip, structure)


def test_scores_equal_those_of_the_single_metrics(evaluator):
    a, b = image_pair(0, h=20, w=28)
    target = image_pair(1, h=20, w=28)[0]
    mask = torch.zeros(3, 20, 28)
    mask[:, 3:9, 12:] = 1
    found = evaluator(a, b, target=target, mask=mask, source_texts=GIVEN, target_texts=WANTED)
    clip, perceptual = evaluator.clip, evaluator.perceptual
    texts = [clip.text_features(each) for each in (GIVEN, WANTED)]
    expected = {"structure": structure_distance(evaluator.structure, a, b)}
    for prefix, of, weight in (("", a, None), ("outside_", a, 1 - mask), ("target_", target, None)):
        expected |= {f"{prefix}{m.__name__}": m(of, b, weight) for m in (mse, psnr, ssim)}
        expected[f"{prefix}lpips"] = lpips(perceptual, of, b, weight)
    expected["clip"] = clip.score(b, WANTED)
    expected["clip_region"] = clip.score(b * mask[:, None], WANTED)
    expected["clip_margin"] = clip.score(b, WANTED) - clip.score(b, GIVEN)
    expected["clip_nearer"] = (expected["clip_margin"] > 0).double()
    expected["clip_direction"] = directional_similarity(clip.image_features(a), clip.image_features(b), *texts)
    assert found.keys() == expected.keys()
    assert list(found) == [name for name, each in METRICS.items() if "style image" not in each.needs]
    for name, values in found.items():
        assert values.dtype == torch.float64
        torch.testing.assert_close(values, expected[name].double(), rtol=1e-4, atol=1e-5, msg=name)


def test_only_metrics_with_given_inputs_are_computed(evaluator):
    a, b = image_pair(2)
    whole = {"mse", "psnr", "ssim", "lpips", "structure"}
    assert evaluator(a, b).keys() == whole
    assert evaluator(a, b, target_texts=WANTED).keys() == whole | {"clip"}
    assert evaluator(a, b, target=a).keys() == whole | {f"target_{name}" for name in whole - {"structure"}}
    with pytest.raises(BadInput, match="target text"):
        evaluator(a, b, source_texts=GIVEN)


def test_undefined_value_is_nan_in_its_row_only(evaluator):
    a, b = image_pair(3, h=16, w=16)
    mask = torch.zeros(3, 16, 16)
    mask[1] = 1
    mask[2] = 1
    mask[2, 0] = 0
    found = evaluator(a, b, mask=mask, source_texts=[WANTED[0], *GIVEN[1:]], target_texts=WANTED)
    assert found["outside_mse"].isnan().tolist() == [False, True, False]
    assert found["outside_lpips"].isnan().tolist() == [False, True, False]
    assert found["outside_ssim"].isnan().tolist() == [False, True, True]  # a window must fit
    assert found["clip_region"].isnan().tolist() == [True, False, False]
    assert found["clip_direction"].isnan().tolist() == [True, False, False]
    full = mse(a[2:], b[2:], 1 - mask[2])
    assert found["outside_mse"][2].item() == pytest.approx(full.item())


def test_identical_images_have_perfect_scores(evaluator):
    a, _ = image_pair(4)
    found = evaluator(a, a, target=a, source_texts=GIVEN, target_texts=WANTED)
    for name in ("mse", "lpips", "structure", "target_mse", "target_lpips", "clip_direction"):
        assert found[name].abs().max() < 1e-9, name
    assert found["psnr"].tolist() == [math.inf] * 3
    assert found["ssim"].tolist() == [1] * 3


def test_ssim_of_too_small_images_is_nan(evaluator):
    a, b = image_pair(5, h=8, w=30)
    found = evaluator(a, b)
    assert found["ssim"].isnan().all()
    assert torch.isfinite(found["lpips"]).all()


def test_scores_do_not_depend_on_the_batch(evaluator):
    a, b = image_pair(6)
    together = evaluator(a, b, source_texts=GIVEN, target_texts=WANTED)
    alone = evaluator(a[1:2], b[1:2], source_texts=GIVEN[1:2], target_texts=WANTED[1:2])
    for name, values in alone.items():
        assert values.item() == pytest.approx(together[name][1].item(), rel=1e-3, abs=1e-5), name


def test_invalid_input_is_refused(evaluator):
    a, b = image_pair(7)
    for texts in ("a cat", WANTED[:2]):
        with pytest.raises(BadInput, match="one text for each"):
            evaluator(a, b, target_texts=texts)
    with pytest.raises(BadInput, match="the same shape"):
        evaluator(a, b, target=a[..., :8])
    with pytest.raises(BadInput, match=r"mask's values"):
        evaluator(a, b, mask=torch.full((16, 16), 2.0))


def test_the_shipped_dual_encoder_is_the_default():
    evaluator = Evaluator.load()
    expected = VisionEncoder(SHIPPED).state_dict()
    for encoder in (evaluator.structure, evaluator.perceptual.network):
        assert all(torch.equal(value, expected[name]) for name, value in encoder.state_dict().items())
    a, b = image_pair(8, b=1, h=64, w=64)
    assert evaluator(a, a)["structure"].item() == 0
    assert evaluator(a, b, target_texts=["red heart, noto"])["clip"].abs().item() <= 1


def test_metrics_have_a_name_a_direction_and_help():
    for name, metric in METRICS.items():
        assert metric.name == name
        assert metric.better in ("higher", "lower")
        assert metric.sign == (1 if metric.better == "higher" else -1)
        assert metric.help
    assert [name for name in METRICS if METRICS[name].unit == "dB"] == ["psnr", "outside_psnr", "target_psnr"]


def test_missing_folders_are_refused_by_name(tmp_path):
    with pytest.raises(BadInput, match="nowhere"):
        Evaluator.load(tmp_path / "nowhere")
    with pytest.raises(BadInput, match="no/such"):
        Evaluator.load("no/such")
