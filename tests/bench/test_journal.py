"""The journal of a benchmark run: recovery after a kill, and refused journals."""

import errno
import json

import pytest

from sfumato.bench.journal import NAME, Journal
from sfumato.errors import BadInput
from tests.bench.small import ABOUT


def test_incomplete_last_line_is_dropped(tmp_path):
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


def test_journal_of_another_model_is_refused(tmp_path):
    Journal(tmp_path, ABOUT).close()
    with pytest.raises(BadInput, match="another model"):
        Journal(tmp_path, ABOUT | {"model": "other"})


def test_second_run_at_the_same_time_is_refused(tmp_path):
    with Journal(tmp_path, ABOUT), pytest.raises(BadInput, match="another run"):
        Journal(tmp_path, ABOUT)


def test_file_system_without_locks_is_accepted(tmp_path, monkeypatch):
    def flock(descriptor, how):
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr("fcntl.flock", flock)
    with Journal(tmp_path, ABOUT) as journal:
        journal.add({"setting": "s", "item": "1"})
    with Journal(tmp_path, ABOUT) as journal:
        assert journal.done("s", "1")


def test_differing_extra_information_is_accepted(tmp_path):
    Journal(tmp_path, ABOUT, {"made_with": "one version"}).close()
    Journal(tmp_path, ABOUT, {"made_with": "another"}).close()
    first = json.loads((tmp_path / NAME).read_text())
    assert first == ABOUT | {"made_with": "one version"}


def test_record_with_another_stamp_is_not_done(tmp_path):
    with Journal(tmp_path, ABOUT) as journal:
        journal.add({"setting": "s", "item": "1", "stamp": "before"})
        journal.add({"setting": "s", "item": "2"})
        assert [journal.done("s", "1", stamp) for stamp in ("before", "after", "")] == [True, False, True]
        assert journal.done("s", "2", "after")


def test_damaged_journal_is_refused(tmp_path):
    with Journal(tmp_path, ABOUT) as journal:
        journal.add({"setting": "s", "item": "1"})
    (tmp_path / NAME).write_text("{}\nnonsense\n")
    with pytest.raises(BadInput, match="damaged"):
        Journal(tmp_path, ABOUT)
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="--out"):
        Journal(tmp_path / "file", ABOUT)
