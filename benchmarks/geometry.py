"""Cost of a tangent basis: sfumato, the dense Jacobian and power iteration at equal accuracy, in one run.

    python benchmarks/geometry.py --model emoji --out out/benchmark-geometry.json

The unit is a pass of one row through the encoder half: an evaluation of the bottleneck, a forward-mode tangent, or a
reverse-mode gradient. A complete network evaluation, as counted for samplers, is converted to passes by its measured
time. Accuracy is the largest angle between the span of the n vectors and that of the dense SVD. Power iteration has no
estimate of its accuracy, so it is stopped when its angle to the dense SVD reaches the tolerance of sfumato. The
algorithms run alternately; medians are printed. `--quick` is a smoke test on a tiny random model.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

import sfumato
from benchmarks.memory import Peak, peak_memory
from benchmarks.power_iteration import Found, dense, power_iteration
from benchmarks.report import add_measuring, environment, measured, publish
from sfumato.core.noise import gaussian_batch
from sfumato.geometry import BottleneckMap, local_basis
from sfumato.geometry.basis import largest_rank

DIRECTIONS = (1, 5, 20, 50)
CHUNKS = (1, 4, 16, 64)


@dataclass
class Cost:
    """The cost and accuracy of n directions by one algorithm.

    Attributes:
        contender: name of the algorithm.
        n: number of directions.
        passes: number of passes of one row through the encoder half.
        angle: largest angle to the span of the dense SVD, in radians.
        error: largest relative error of a singular value.
        seconds: wall-clock seconds of every round.
        cpu_seconds: CPU seconds of all threads together, which hardly depend on other load on the machine.
        note: a remark for the table.
    """

    contender: str
    n: int
    passes: int = 0
    angle: float = 0.0
    error: float = 0.0
    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    note: str = ""


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default="emoji", help="bundled name or folder")
    parser.add_argument("--prompt", default="", help="prompt that the Jacobian is conditioned on")
    parser.add_argument("--time", type=float, default=1.0, help="fraction of the run that remains; 1 is t = T")
    parser.add_argument("--directions", type=int, nargs="+", default=list(DIRECTIONS), help="numbers of directions")
    parser.add_argument("--tolerance", type=float, default=1e-3, help="angle in radians to reach")
    parser.add_argument("--iterations", type=int, default=50, help="maximum iterations of power iteration")
    parser.add_argument(
        "--keep-positions", action="store_true", help="use all positions of the bottleneck instead of their sum"
    )
    parser.add_argument("--no-memory", action="store_true", help="do not measure memory, which starts processes")
    add_measuring(parser, repeats=3)
    return parser.parse_args(words)


def the_map(given: argparse.Namespace) -> tuple[BottleneckMap, Tensor]:
    """The map f from latent to bottleneck at the requested timestep, and a latent of pure noise [1,c,h,w]."""
    network = sfumato.load(given.model, given.device).network
    t = min(round(given.time * len(network.schedule)), len(network.schedule)) - 1
    condition = network.condition([given.prompt]) if network.takes_text else None
    shape = network.latent_shape(*network.native_size)
    x = gaussian_batch(shape, [0], step=len(network.schedule), tag="generate", device=network.device)
    return BottleneckMap(network, max(t, 0), condition, None if given.keep_positions else "sum"), x


def measure(f: BottleneckMap, x: Tensor, given: argparse.Namespace) -> list[Cost]:
    """Measure every algorithm for every number of directions up to the dimension of the bottleneck."""
    truth = dense(f, x)
    costs: list[Cost] = []
    for n in (n for n in given.directions if n <= largest_rank(f, x)):
        contenders: dict[str, Callable[[], Found]] = {
            "sfumato": partial(_ours, f, x, n, None, given.tolerance),
            "sfumato, krylov": partial(_ours, f, x, n, "krylov", given.tolerance),
            "sfumato, exact": partial(_ours, f, x, n, "exact", given.tolerance),
            "dense Jacobian": partial(dense, f, x),
        }
        found = {name: Cost(name, n) for name in contenders}
        for _ in range(given.repeats):
            for name, contender in contenders.items():
                _time(found[name], contender, truth)
        plain = Cost("power iteration", n)
        judge = _judge(truth, n, given.tolerance)
        _time(plain, partial(power_iteration, f, x, n, judge, given.iterations), truth)
        plain.note = f"{4 * n * given.iterations} passes in all {given.iterations} iterations"
        plain.note += "" if plain.angle <= given.tolerance else ", not reached"
        costs += [*found.values(), plain]
    return costs


def _ours(f: BottleneckMap, x: Tensor, n: int, algorithm: Any, tolerance: float) -> Found:
    basis = local_basis(f, x, n, algorithm=algorithm, tolerance=tolerance)
    return Found(basis.v[0].flatten(1).double(), basis.values[0].double(), basis.u[0].double(), basis.passes.total)


def _judge(truth: Found, n: int, tolerance: float) -> Callable[[Tensor], bool]:
    return lambda v: _angle(v, truth.v[:n]) <= tolerance


def _angle(v: Tensor, truth: Tensor) -> float:
    """Largest angle between two spans of orthonormal rows, from its sine, which is accurate for small angles."""
    outside = v - (v @ truth.mT) @ truth
    return float(torch.linalg.matrix_norm(outside, ord=2).clamp(max=1).asin())


def _time(cost: Cost, work: Callable[[], Found], truth: Found) -> None:
    began, busy = time.perf_counter(), time.process_time()
    found = work()
    if found.v.is_cuda:
        torch.cuda.synchronize()
    cost.seconds.append(time.perf_counter() - began)
    cost.cpu_seconds.append(time.process_time() - busy)
    cost.passes = found.passes
    cost.angle = _angle(found.v[: cost.n], truth.v[: cost.n])
    cost.error = float((found.values[: cost.n] / truth.values[: cost.n] - 1).abs().max())


def passes_per_evaluation(f: BottleneckMap, x: Tensor, repeats: int) -> float:
    """Time of one complete network evaluation in units of passes, from the fastest of several measurements."""

    def fastest(work: Callable[[], Any]) -> float:
        times = []
        for _ in range(repeats + 1):
            began = time.perf_counter()
            work()
            if x.is_cuda:
                torch.cuda.synchronize()
            times.append(time.perf_counter() - began)
        return min(times)

    rows = x.repeat(f.chunk, 1, 1, 1)
    condition = None if f.condition is None else f.condition.repeat(f.chunk)
    with torch.no_grad():
        return fastest(lambda: f.network.predict(rows, f.t, condition)) / fastest(lambda: f(rows))


def memory_by_chunk(given: argparse.Namespace) -> dict[int, Peak]:
    """Peak memory of an exact basis by chunk size, each measured in a separate process."""
    found = {}
    for chunk in CHUNKS:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            found[chunk] = pool.submit(_memory, given, chunk).result()
    return found


def _memory(given: argparse.Namespace, chunk: int) -> Peak:
    torch.set_num_threads(given.threads or torch.get_num_threads())
    f, x = the_map(given)
    f = BottleneckMap(f.network, f.t, f.condition, f.pool, chunk)
    with peak_memory(given.device) as peak:
        local_basis(f, x, 1, algorithm="exact")
    return peak


def as_table(costs: Sequence[Cost], worth: float, memory: dict[int, Peak]) -> str:
    """Markdown table: passes, equivalent network evaluations, seconds, ratios to sfumato, accuracy.

    The first ratio is of passes, the second of CPU seconds.
    """
    columns = [
        "passes",
        "evaluations",
        "times sfumato",
        "seconds",
        "CPU s",
        "times sfumato",
        "angle",
        "singular values",
    ]
    lines = [f"| directions | | {' | '.join(columns)} | |", "| ---: | --- |" + " ---: |" * len(columns) + " --- |"]
    for cost in costs:
        ours = next(each for each in costs if each.n == cost.n)
        seconds, busy = median(cost.seconds), median(cost.cpu_seconds)
        cells = [cost.n, cost.contender, cost.passes, f"{cost.passes / worth:.0f}", f"{cost.passes / ours.passes:.1f}"]
        cells += [f"{seconds:.2f}", f"{busy:.2f}", f"{busy / median(ours.cpu_seconds):.1f}"]
        cells += [f"{cost.angle:.0e}", f"{cost.error:.0e}"]
        lines.append(f"| {' | '.join(map(str, [*cells, cost.note]))} |")
    if memory:
        peaks = [f"{peak.peak - peak.before:.0f}" if peak.peak and peak.before else "-" for peak in memory.values()]
        lines += ["", "| rows per pass (`chunk`) | " + " | ".join(map(str, memory)) + " |"]
        lines += [
            "| --- |" + " ---: |" * len(memory),
            "| peak memory above the loaded model, MiB | " + " | ".join(peaks) + " |",
        ]
    return "\n".join(lines)


def _headline(f: BottleneckMap, x: Tensor, where: dict[str, Any], worth: float, tolerance: float) -> str:
    return (
        f"{Path(f.network.name).name}, latent {list(x.shape[1:])}, bottleneck {list(f.h_shape(*x.shape[-2:]))}, "
        f"timestep {f.t}; {where['device']}, {where['threads']} threads, {where['cpu']}, load {where['load']:.1f}; "
        f"torch {where['torch']}; one network evaluation takes as long as {worth:.2f} passes; "
        f"target accuracy {tolerance:g} rad."
    )


def work(given: argparse.Namespace) -> None:
    """Measure, print and write the results."""
    with tempfile.TemporaryDirectory() as beside:
        if given.quick:
            _quicken(given, Path(beside))
        f, x = the_map(given)
        where, worth = environment(given.device), passes_per_evaluation(f, x, given.repeats)
        costs = measure(f, x, given)
        memory = {} if given.no_memory else memory_by_chunk(given)
    headline = _headline(f, x, where, worth, given.tolerance)
    found = {"environment": where, "passes_per_evaluation": worth, "costs": [asdict(cost) for cost in costs]}
    found |= {"memory": {str(chunk): asdict(peak) for chunk, peak in memory.items()}}
    publish(given, f"{headline}\n\n{as_table(costs, worth, memory)}\n", found)


def main(words: Sequence[str] | None = None) -> int:
    """Run the benchmark. Returns an exit code."""
    given = arguments(words)
    return measured(__file__, given, work)


def _quicken(given: argparse.Namespace, folder: Path) -> None:
    """Set the smallest settings that run every part, and write a tiny random model into `folder`."""
    from tests.tiny import tiny_sd  # random weights of the tests

    given.model, given.no_memory = str(tiny_sd(folder / "tiny")), True
    given.directions, given.repeats, given.iterations = [1, 3], 1, 5


if __name__ == "__main__":
    sys.exit(main())
