"""The journal: what survives a kill, and what is refused."""

import errno
import json

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


def test_a_file_system_without_locks_is_no_other_run(tmp_path, monkeypatch):
    def flock(descriptor, how):
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr("fcntl.flock", flock)
    with Journal(tmp_path, ABOUT) as journal:
        journal.add({"setting": "s", "item": "1"})
    with Journal(tmp_path, ABOUT) as journal:
        assert journal.done("s", "1")


def test_what_is_beside_is_told_and_refuses_nothing(tmp_path):
    Journal(tmp_path, ABOUT, {"made_with": "one version"}).close()
    Journal(tmp_path, ABOUT, {"made_with": "another"}).close()
    first = json.loads((tmp_path / NAME).read_text())
    assert first == ABOUT | {"made_with": "one version"}


def test_a_record_of_other_pictures_is_not_done_and_one_that_does_not_say_is(tmp_path):
    with Journal(tmp_path, ABOUT) as journal:
        journal.add({"setting": "s", "item": "1", "stamp": "before"})
        journal.add({"setting": "s", "item": "2"})
        assert [journal.done("s", "1", stamp) for stamp in ("before", "after", "")] == [True, False, True]
        assert journal.done("s", "2", "after")


def test_damage_is_said(tmp_path):
    with Journal(tmp_path, ABOUT) as journal:
        journal.add({"setting": "s", "item": "1"})
    (tmp_path / NAME).write_text("{}\nnonsense\n")
    with pytest.raises(BadInput, match="damaged"):
        Journal(tmp_path, ABOUT)
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="--out"):
        Journal(tmp_path / "file", ABOUT)
