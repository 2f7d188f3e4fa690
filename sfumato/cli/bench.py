"""`sfumato bench`: compare methods and settings on a benchmark of edits."""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfumato.cli.metrics import add_evaluator, check_model_evaluator
from sfumato.cli.model_flags import add_model, check_early, load_model
from sfumato.cli.outputs import refuse_links_out
from sfumato.cli.parser import CommandParser, integer
from sfumato.cli.report import print_json, print_table, say, shown
from sfumato.errors import BadInput
from sfumato.files import printable
from sfumato.suggestions import suggestion

if TYPE_CHECKING:
    from sfumato.api import Model
    from sfumato.bench.items import Benchmark, Item
    from sfumato.bench.runner import Runner
    from sfumato.bench.settings import Setting
    from sfumato.bench.summary import Line
    from sfumato.metrics import Evaluator

BENCHMARKS = ("pairs", "piebench")
_ANY_SIZE = 64
"""Image size with which the benchmark is checked before the model, whose size is the default, is loaded."""
EMOJI = Path("data/emoji")


def describe(parser: CommandParser, words: Sequence[str]) -> None:
    """Add the benchmark, the settings and the output folder."""
    parser.usage = "sfumato bench pairs|piebench --out DIR [options]"
    parser.add_argument("benchmark", metavar="NAME", help="pairs: emoji with ground-truth edits; piebench: PIE-Bench")
    parser.add_argument(
        "--out", required=True, type=Path, metavar="DIR", help="folder of the results; a second run resumes there"
    )
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="emoji corpus (default data/emoji), or your copy of PIE-Bench"
    )
    parser.add_argument(
        "--rows",
        type=Path,
        metavar="FILE",
        help="TOML of [[row]]: name, method, parameters; default: methods that edit by a target prompt",
    )
    parser.add_argument("--kinds", nargs="+", metavar="KIND", help="only edits of these kinds")
    parser.add_argument(
        "--splits", nargs="+", metavar="SPLIT", help="pairs: only targets of these splits: test, cells, train"
    )
    parser.add_argument("--limit", type=integer(1), metavar="N", help="only N edits, spread evenly over the kinds")
    parser.add_argument(
        "--size", type=integer(16, 1024), metavar="PIXELS", help="pairs: image size; default that of the model"
    )
    parser.add_argument(
        "--batch", type=integer(1), default=16, metavar="N", help="number of edits per batch; default 16"
    )
    add_model(parser)
    add_evaluator(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.example("sfumato bench pairs --rows rows.toml --limit 20 --out out/bench")


def run(arguments: Namespace) -> int:
    """Run the missing edits, write the report and print the means. Returns 1 if an edit failed."""
    _check_data(arguments)
    check_early(arguments)
    check_model_evaluator(arguments)
    from sfumato.cli.quiet import quiet_libraries

    quiet_libraries()  # before the import of the first library, which already logs warnings
    from sfumato.api.evaluators import evaluator_of
    from sfumato.api.report import made_with
    from sfumato.bench.journal import Journal
    from sfumato.bench.report import PAGE, PARQUET
    from sfumato.bench.runner import Runner
    from sfumato.bench.settings import compared, default_settings, read_settings

    refuse_links_out(arguments.out, [arguments.out / name for name in (PARQUET, PAGE)])
    benchmark = _benchmark(arguments, arguments.size or _ANY_SIZE)
    items = _items(benchmark, arguments)
    rows = None if arguments.rows is None else read_settings(arguments.rows)
    model = load_model(arguments)
    if arguments.benchmark == "pairs" and arguments.size is None:
        benchmark = _benchmark(arguments, min(model.network.native_size))
        items = _items(benchmark, arguments)
    settings = compared(default_settings(model) if rows is None else rows, model)
    evaluator = evaluator_of(model, arguments.clip, arguments.structure, arguments.lpips)
    provenance = {"made_with": made_with(model.network)}
    with Journal(arguments.out, _about(benchmark, model, evaluator), provenance) as journal:
        return _run(
            Runner(benchmark, items, model, evaluator, journal, arguments.out, arguments.batch), settings, arguments
        )


def _check_data(arguments: Namespace) -> None:
    """Raise BadInput for an unknown benchmark or missing data, before torch is imported."""
    if arguments.benchmark not in BENCHMARKS:
        raise BadInput(f"there is no benchmark {arguments.benchmark!r}{suggestion(arguments.benchmark, BENCHMARKS)}")
    if arguments.benchmark == "piebench" and arguments.data is None:
        raise BadInput("give --data with the folder of your copy of PIE-Bench; sfumato may not distribute it.")
    if arguments.benchmark == "piebench" and arguments.size is not None:
        raise BadInput("--size is for pairs only: PIE-Bench is edited at the size of its images and masks.")
    data = arguments.data or EMOJI
    if not data.is_dir():
        raise BadInput(f"there is no folder {printable(data)}: `sfumato data emoji` builds the emoji corpus.")


def _benchmark(arguments: Namespace, size: int) -> "Benchmark":
    if arguments.benchmark == "pairs":
        from sfumato.bench.pairs import PairBenchmark

        return PairBenchmark(arguments.data or EMOJI, size)
    from sfumato.bench.piebench import PieBench

    return PieBench(arguments.data)


def _items(benchmark: "Benchmark", arguments: Namespace) -> "list[Item]":
    from sfumato.bench.runner import limited

    if not benchmark.items:
        raise BadInput(f"{arguments.data} contains no edits.")
    kinds = _chosen(benchmark, "kind", arguments.kinds)
    splits = _chosen(benchmark, "split", arguments.splits)
    chosen = [item for item in benchmark.items if item.kind in kinds and item.split in splits]
    if not chosen:
        raise BadInput(f"no edit of the kinds {', '.join(kinds)} is in the splits {', '.join(splits)}.")
    return limited(chosen, arguments.limit)


def _chosen(benchmark: "Benchmark", name: str, wanted: Sequence[str] | None) -> list[str]:
    """The requested kinds or splits, by default all of them."""
    known = list(dict.fromkeys(getattr(item, name) for item in benchmark.items))
    if wanted and not any(known):
        raise BadInput(f"{benchmark.name} has no {name}s: leave --{name}s out.")
    for each in wanted or ():
        if each not in known:
            raise BadInput(f"{benchmark.name} has no {name} {each!r}{suggestion(each, known)}")
    return list(wanted or known)


def _about(benchmark: "Benchmark", model: "Model", evaluator: "Evaluator") -> dict[str, Any]:
    """Identifiers that all results in one folder must share. None equals a missing field of an older journal."""
    from sfumato.api.reading import ENTRIES, reading
    from sfumato.bench.evaluating import evaluator_fingerprint

    return {
        "benchmark": benchmark.identity,
        "model": model.network.fingerprint(),
        **{name: reading(model.network).get(name) for name in ENTRIES},
        "evaluator": evaluator_fingerprint(evaluator),
    }


def _run(runner: "Runner", settings: "Sequence[Setting]", arguments: Namespace) -> int:
    from sfumato.api.report import shareable
    from sfumato.bench.report import write_page, write_parquet
    from sfumato.bench.summary import as_json, summarise
    from sfumato.cli.progress import progress

    with progress() as show:
        records = runner.run(settings, show)
    benchmark, items, folder = runner.benchmark, runner.items, arguments.out
    lines = summarise(settings, items, records, benchmark.metrics)
    title = f"{benchmark.name}, {printable(shareable(arguments.model))}"
    about = f"{len(items)} edits ({benchmark.identity}); device {runner.model.network.device}."
    written = [
        write_parquet(folder, settings, items, records, benchmark.metrics),
        write_page(folder, title, about, settings, items, records, lines, benchmark),
    ]
    failed = [record for record in records if "error" in record]
    if arguments.json:
        found: dict[str, Any] = {"benchmark": benchmark.name, "edits": len(items), "failed": len(failed)}
        print_json(found | {"outputs": written, "lines": as_json(lines)})
    else:
        _print(lines, benchmark)
        say("  ".join(str(path) for path in written))
        for record in failed[:1]:
            say(f"{len(failed)} edits failed, the first, {record['item']}, with: {record['error']}")
    return 1 if failed else 0


def _print(lines: "Sequence[Line]", benchmark: "Benchmark") -> None:
    from sfumato.bench.summary import ALL, COSTS

    names = [*benchmark.headline, *COSTS]
    rows = [["setting", "edits", "failed", *(name.replace("clip_similarity_", "clip_") for name in names)]]
    for line in lines:
        if line.group == ALL:
            means = [line.means.get(name, float("nan")) for name in names]
            numbers = ["-" if value != value else shown(value) for value in means]
            rows.append([line.setting.name, str(line.finished), str(line.failed), *numbers])
    print_table(rows)
    for line in lines:
        if line.group == ALL and line.compared < line.finished:
            edits = line.finished + line.failed
            say(f"means are over the edits that all settings finished: {line.compared} of {edits}")
            break
