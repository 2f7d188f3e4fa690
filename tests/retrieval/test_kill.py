"""An indexing run that is killed with SIGKILL keeps the written batches, and the next run resumes."""

import signal
import subprocess
import sys

from sfumato.retrieval.columns import VECTORS
from sfumato.retrieval.files import image_files
from sfumato.retrieval.index import ImageIndex
from tests.retrieval.conftest import indexed

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
