"""CPU seconds of the start of the command line, compared with the import of torch.

    python -m benchmarks.startup [REPEATS]

Every command runs in a separate process; the minimum over the repeats is printed. After the first run, files are in the
cache of the operating system.
"""

import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from sfumato.cli.report import print_table, say
from sfumato.examples import examples

CAT = str(next(each.path for each in examples() if each.name == "cat"))
EDIT = ("edit", CAT, "--to", "dog", "-o", "out.png")
COMMANDS: dict[str, tuple[str, ...]] = {
    "--help": ("--help",),
    "edit --help": ("edit", "--help"),
    "methods": ("methods",),
    "methods prompt-to-prompt": ("methods", "prompt-to-prompt"),
    "train --help": ("train", "--help"),
    "missing image": ("edit", "nosuch.png", "--to", "dog", "-o", "out.png"),
    "missing inversion": ("edit", "nosuch.safetensors", "--to", "dog", "-o", "out.png"),
    "unknown method": (*EDIT, "--method", "nosuch"),
    "unknown option": (*EDIT, "--nosuch", "1"),
    "option out of range": (*EDIT, "--steps", "0"),
    "unknown model": (*EDIT, "--model", "nosuch"),
    "sweep, missing image": ("sweep", "nosuch.png", "--to", "dog", "--grid", "skip=1,2", "-o", "out"),
    "generate, unknown model": ("generate", "dog", "-o", "out.png", "--model", "nosuch"),
}


def cpu_seconds(words: Sequence[str], folder: Path) -> float:
    """User and system time of one process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(words, cwd=folder, capture_output=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main(repeats: int = 3) -> None:
    """Measure and print the table."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)

        def least(words: Sequence[str]) -> float:
            return min(cpu_seconds(words, folder) for _ in range(repeats))

        torch = least((sys.executable, "-c", "import torch"))
        rows = [["command line", "CPU seconds", "share of importing torch"]]
        for name, words in COMMANDS.items():
            seconds = least((sys.executable, "-m", "sfumato", *words))
            rows.append([name, f"{seconds:.2f}", f"{seconds / torch:.2f}"])
    print_table(rows)
    say(f"importing torch: {torch:.2f} s")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
