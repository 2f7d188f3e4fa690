"""Discovery of metrics: each is one file, of this package or of a third-party package."""

import pytest
import torch

import sfumato.metrics
from sfumato.errors import BadInput
from sfumato.metrics import METRICS, EditBatch, Metric, measurable, measure, metric
from tests import third_party
from tests.metrics.encoders import image_pair

PAIR = ["mse", "psnr", "ssim", "lpips", "structure"]


def test_metric_file_is_discovered(monkeypatch, tmp_path):
    (tmp_path / "dropped_in.py").write_text(third_party.METRIC)
    third_party.read_again(monkeypatch, METRICS)
    monkeypatch.setattr(sfumato.metrics, "__path__", [*sfumato.metrics.__path__, str(tmp_path)])
    a, b = image_pair()
    scores = measure(METRICS, EditBatch(a, b, {}))
    torch.testing.assert_close(scores["brightness"], (a - b).mean((1, 2, 3)).abs().double())
    assert list(scores) == ["mse", "psnr", "ssim", "brightness"]


def test_metric_of_another_package_is_discovered(monkeypatch, tmp_path):
    third_party.install(monkeypatch, tmp_path, METRICS, "brightness", third_party.METRIC)
    assert METRICS["brightness"].sign == -1
    assert METRICS.find("brightness") is METRICS["brightness"]
    assert METRICS.unloaded == []


BROKEN = {
    "ModuleNotFoundError: No module named 'nosuch'": "import nosuch",
    "SyntaxError": "def (",
    "SystemExit: 3": f"{third_party.METRIC}\nraise SystemExit(3)",
    "BadInput: the metric 'mse' is registered twice": third_party.METRIC
    + third_party.METRIC.replace("brightness", "mse"),
    "BadInput: the metric 'brightness' needs 'taste', which is none of": third_party.METRIC.replace(
        'better="lower"', 'better="lower", needs=["taste"]'
    ),
    "BadInput: better of the metric 'brightness' must be one of higher, lower": third_party.METRIC.replace(
        'better="lower"', 'better="less"'
    ),
}


@pytest.mark.parametrize("reason", BROKEN)
def test_broken_package_is_reported_and_changes_nothing(monkeypatch, tmp_path, reason):
    before = list(METRICS)
    third_party.install(monkeypatch, tmp_path, METRICS, "brightness", BROKEN[reason], package="failing")
    assert list(METRICS) == before
    (failure,) = METRICS.unloaded
    assert (failure.name, failure.package) == ("brightness", "failing")
    assert reason in failure.reason
    with pytest.raises(BadInput, match="the metric 'brightness' of the package failing cannot be loaded"):
        METRICS.find("brightness")
    with pytest.raises(BadInput, match="there is no metric"):
        METRICS.find("nosuch")


def test_measurable_metrics_follow_from_their_needs():
    assert measurable([]) == PAIR
    assert measurable(["mask"]) == [*PAIR, "outside_mse", "outside_psnr", "outside_ssim", "outside_lpips"]
    assert measurable(["target text"]) == [*PAIR, "clip"]
    assert measurable(["target text", "mask"])[-2:] == ["clip", "clip_region"]
    assert measurable(sfumato.metrics.NEEDS) == list(METRICS)


def test_metric_with_an_undeclared_input_is_refused(monkeypatch):
    third_party.read_again(monkeypatch, METRICS)
    metric("sneaky", help="uses the mask", better="lower")(lambda batch: batch.mask.mean((1, 2)))
    with pytest.raises(BadInput, match="no mask: list it in the `needs` of the metric"):
        measure({"sneaky": METRICS["sneaky"]}, EditBatch(*image_pair(), {}))


@pytest.mark.parametrize("wrong", [lambda batch: batch.edit.mean(), lambda batch: batch.edit.mean((2, 3))])
def test_metric_must_return_one_number_per_edit(wrong):
    odd = {"odd": Metric("odd", "of another shape", "lower", compute=wrong)}
    with pytest.raises(BadInput, match=r"the metric 'odd' gave \[.*\] numbers for 3 edits"):
        measure(odd, EditBatch(*image_pair(), {}))
