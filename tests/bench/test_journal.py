"""The journal: what survives a kill, and what is refused."""

import pytest

from sfumato.bench.journal import NAME, Journal
from sfumato.errors import BadInput
from tests.bench.small import ABOUT


def test_half_a_line_is_dropped_and_the_rest_kept(tmp_path):
    with Journal(tmp_path, ABOUT) as journal:
        journal.add({"setting": "s", "item": "1", "scores": {"psnr": float("inf"), "ssim": float("nan")}})
    with open(tmp_path / NAME, "ab") as file:
        file.write(b'{"setting": "s", "item": "2", "sco')
    with Journal(tmp_path, ABOUT) as journal:
        assert journal.done("s", "1")
        assert not journal.done("s", "2")
        assert journal.records["s", "1"]["scores"]["psnr"] == float("inf")
        journal.add({"setting": "s", "item": "2"})
    assert len((tmp_path / NAME).read_text().splitlines()) == 3
    with Journal(tmp_path, ABOUT) as journal:
        assert journal.done("s", "2")


def test_results_of_something_else_are_not_mixed_in(tmp_path):
    Journal(tmp_path, ABOUT).close()
    with pytest.raises(BadInput, match="another model"):
        Journal(tmp_path, ABOUT | {"model": "other"})


def test_two_runs_at_once(tmp_path):
    with Journal(tmp_path, ABOUT), pytest.raises(BadInput, match="another run"):
        Journal(tmp_path, ABOUT)


def test_damage_is_said(tmp_path):
    with Journal(tmp_path, ABOUT) as journal:
        journal.add({"setting": "s", "item": "1"})
    (tmp_path / NAME).write_text("{}\nnonsense\n")
    with pytest.raises(BadInput, match="damaged"):
        Journal(tmp_path, ABOUT)
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="--out"):
        Journal(tmp_path / "file", ABOUT)
