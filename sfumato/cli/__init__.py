"""The command line: results on stdout; progress and error messages on stderr, one sentence per error.

Exit codes: 0 success, 1 failure, 2 invalid input, 130 stopped by Ctrl-C, 143 stopped by SIGTERM. Training first writes
a last checkpoint, from which the same command resumes.
"""

import io
import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress

from sfumato.cli.commands import parse
from sfumato.cli.parser import before_dashes
from sfumato.cli.quiet import quiet_warnings
from sfumato.cli.report import say
from sfumato.cli.signals import Ending, Terminated
from sfumato.errors import BadInput, NonFinite

DONE, FAILED, BAD_INPUT, INTERRUPTED, TERMINATED = 0, 1, 2, 130, 143


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Without `argv`, the process ends with the command: signals that arrive afterwards have no effect, and if a signal
    stopped the command, this function exits instead of returning.

    Args:
        argv: the command line arguments without the name of the program; by default `sys.argv[1:]`.

    Returns:
        The exit code; no exception is raised.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):  # a file name that the terminal cannot show must not end the command
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    quiet_warnings()
    with Ending(of_process=argv is None) as ending:
        try:
            code = _run(words)
            sys.stdout.flush()
        except BaseException as error:
            ending.begun = True
            if "--debug" in before_dashes(words):
                for line in traceback.format_exc().splitlines():
                    say(line, error=True)
            code = _explain(ending.raised or error)
    if argv is None and code in (INTERRUPTED, TERMINATED):
        os._exit(code)  # immediately: the cleanup of the interpreter takes long and ignores signals
    return code


def _run(words: Sequence[str]) -> int:
    try:
        command, arguments = parse(words)
    except SystemExit:  # argparse, after --help and --version
        return DONE
    return command.run(arguments) or DONE


def _explain(error: BaseException) -> int:
    """Print one sentence about the error on stderr; return the exit code."""
    if isinstance(error, BrokenPipeError):  # the reader, such as `head`, has closed the pipe
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    if isinstance(error, KeyboardInterrupt):
        return _say("stopped; no incomplete file is left.", INTERRUPTED)
    if isinstance(error, Terminated):
        return _say("terminated; no incomplete file is left.", TERMINATED)
    if isinstance(error, BadInput):
        return _say(str(error), BAD_INPUT)
    if isinstance(error, NonFinite):
        return _say(str(error), FAILED)
    if _out_of_memory(error):
        return _say("there is not enough memory for this: use a smaller image, or fewer images at once.", FAILED)
    first = (str(error).strip().splitlines() or ["no message"])[0]
    return _say(f"{type(error).__name__}: {first} (--debug shows the traceback).", FAILED)


def _out_of_memory(error: BaseException) -> bool:
    """Whether a library could not allocate memory; PyTorch raises a RuntimeError for that of the CPU."""
    text = str(error).lower() if isinstance(error, RuntimeError) else ""
    stated = any(words in text for words in ("can't allocate memory", "not enough memory", "out of memory"))
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or stated


def _say(sentence: str, code: int) -> int:
    say(f"sfumato: {sentence}", error=True)
    return code
