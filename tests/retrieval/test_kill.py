"""An indexing run that is killed with SIGKILL keeps the written batches, and the next run resumes."""

import random
import re
import signal
import subprocess
import sys

import pytest

from benchmarks.index_kills import Trial, main
from sfumato.retrieval.columns import VECTORS
from sfumato.retrieval.files import image_files
from sfumato.retrieval.index import ImageIndex
from tests.retrieval.conftest import indexed

pytestmark = pytest.mark.slow

SCRIPT = """
import sys
from sfumato.retrieval.files import image_files
from sfumato.retrieval.columns import VECTORS
from sfumato.retrieval.index import ImageIndex
from sfumato.retrieval.indexing import index_files
from sfumato.style.describers import Describers

uri, images, content, style = sys.argv[1:]
describers, files = Describers.load(content, style), image_files(images)
for state in index_files(ImageIndex.create(uri, describers, files), describers, files, batch=3):
    print(state.added, flush=True)
"""


def test_a_killed_run_keeps_its_batches(tmp_path, describers, encoders, images):
    uri = tmp_path / "index"
    words = [sys.executable, "-c", SCRIPT, str(uri), str(images), *map(str, encoders)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as run:
        reported = [int(run.stdout.readline()) for _ in range(2)]
        run.send_signal(signal.SIGKILL)
    assert run.returncode == -signal.SIGKILL
    left = ImageIndex.open(str(uri))
    rows = left.table.to_arrow().to_pylist()
    assert len(rows) >= reported[-1] == 6
    assert len(rows) % 3 == 0 or len(rows) == len(image_files(images)), "a batch is complete or not there"
    assert all(
        row["digest"] and len(row[VECTORS["content"]]) == 10 and len(row[VECTORS["style"]]) == 12 for row in rows
    )
    index, state = indexed(uri, describers, images)
    assert (state.unchanged, state.unchanged + state.added, len(index)) == (len(rows), state.total, state.total)


def test_benchmark_kills_the_command(encoders, capsys):
    main(["--kills", "1", "--content-encoder", str(encoders[0]), "--style-encoder", str(encoders[1])])
    found = re.fullmatch(
        r"1 kills: (\d) before the first write, (\d) during writing, (\d) after it; rows lost: 0, rows twice: 0, rows "
        r"that differ from an index made in one run: 0 of (\d+)\n",
        capsys.readouterr().out,
    )
    assert sum(map(int, found.groups()[:3])) == 1
    assert int(found[4]) >= 12


def test_benchmark_counts_lost_changed_and_double_rows(tmp_path, describers, images):
    index, _ = indexed(tmp_path / "index", describers, images)
    trial = Trial(tmp_path, [], random.Random(0))
    trial.check()
    trial.check()
    assert (trial.counts["lost"], trial.counts["twice"], len(trial.known)) == (0, 0, 23)
    first, second, third = sorted(trial.known)[:3]
    rows = index.table.to_arrow()
    index.table.add(rows.filter([path == second for path in rows["path"].to_pylist()]))
    index.table.delete(f"path = '{first}'")
    index.table.update(f"path = '{third}'", {VECTORS["style"]: [1.0] * 12})
    trial.check()
    assert (trial.counts["lost"], trial.counts["twice"]) == (2, 1)
