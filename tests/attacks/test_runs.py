"""Malicious folders of training runs are refused, and nothing outside them is changed."""

import pytest

from sfumato.train.report import parts
from tests.attacks.headers import many, with_header
from tests.attacks.limits import PLACES, place, refused
from tests.train.toy import run_of

KINDS = [kind for kind in PLACES if kind not in ("missing", "null byte")]
FILES = ("recipe.json", "history.jsonl", "log.jsonl", "checkpoints/step-00000002/state.json")
FILES += ("checkpoints/step-00000002/first.safetensors", "checkpoints/step-00000002/first.optimizer.safetensors")


@pytest.fixture
def begun(tmp_path):
    """The folder of a run of two steps."""
    list(run_of(tmp_path / "run", 2).steps())
    return tmp_path / "run"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FILES)
def test_run_entry_that_is_not_a_file_is_refused(begun, name, kind):
    path = begun / name
    path.unlink()
    place(path.parent, kind, path.name)
    with refused("can be read" if "checkpoints" in name else path.name):
        list(run_of(begun, 3).steps())


@pytest.mark.parametrize("name", FILES)
def test_links_out_of_a_run_are_refused(begun, name):
    outside = begun.parent / "outside"
    (begun / name).rename(outside)
    (begun / name).symlink_to(outside)
    before = outside.read_bytes()
    with refused("can be read" if "checkpoints" in name else "leads out of"):
        list(run_of(begun, 3).steps())
    assert outside.read_bytes() == before


@pytest.mark.parametrize("kind", [*KINDS, "million tensors"])
@pytest.mark.parametrize("name", ["training.json", "unet/training.json", "unet/model.safetensors"])
def test_report_rejects_or_skips_entries_that_are_not_files(tmp_path, name, kind):
    (tmp_path / "unet").mkdir()
    if kind == "million tensors":
        with_header(tmp_path / name, many(20_001))
    else:
        place((tmp_path / name).parent, kind, (tmp_path / name).name)
    if name.endswith(".safetensors") and kind not in ("memory", "kernel", "million tensors"):  # no file: not counted
        assert parts(tmp_path)["unet"]["parameters"] == 0
    else:
        with refused(name):
            parts(tmp_path)
