"""The sources of `sfumato edit`: images, or a saved inversion, with their prompts and seeds."""

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sfumato.cli.composed import Composed
from sfumato.cli.flags import check_distinct, seeds_of
from sfumato.cli.inputs import read_image_and_notes
from sfumato.errors import BadInput
from sfumato.formats import INVERSION

if TYPE_CHECKING:
    from sfumato.images import LoadedImage
    from sfumato.inversion import Inversion


@dataclass(frozen=True)
class Sources:
    """The images or the inversion to edit, read before a model is loaded.

    Attributes:
        sizes: (width, height) of every image in pixels.
        count: number of results.
        prompts: source prompts, one for all results or one for each.
        targets: target prompts, one for all results or one for each.
        seeds: seeds, one for all results or one for each.
        resolution: size at which the images are edited, as for `Model.invert`.
        tiles: whether the network is evaluated in tiles.
        notes: remarks on reading the images.
        images: the source images; [] for an inversion.
        inversion: the saved inversion; None for images.
    """

    sizes: list[tuple[int, int]]
    count: int
    prompts: list[str]
    targets: list[str]
    seeds: list[int]
    resolution: int | str | None
    tiles: bool
    notes: list[str] = field(default_factory=list)
    images: "list[LoadedImage]" = field(default_factory=list)
    inversion: "Inversion | None" = None


def read_image_sources(arguments: Namespace) -> Sources:
    """Read all images.

    Raises:
        BadInput: an image cannot be read, or the numbers of prompts, seeds and images do not match.
    """
    prompts, targets, seeds = arguments.sources or [""], arguments.targets or [""], seeds_of(arguments)
    named = {"--from": prompts, "--to": targets, "--seed": seeds}
    count = _count(len(arguments.images), named)
    if len(arguments.images) == len(prompts) == len(targets) == 1:
        check_distinct(seeds)
    images, notes = [], list[str]()
    for path in arguments.images:
        image, remarks = read_image_and_notes(path, arguments.max_pixels)
        images.append(image)
        notes += remarks
    sizes = [each.size for each in images]
    return Sources(sizes, count, prompts, targets, seeds, arguments.resolution, arguments.tiles, notes, images)


def _count(images: int, named: dict[str, Sequence[Any]]) -> int:
    """Number of results: that of the images, or for one image that of the prompts or seeds. Raises BadInput."""
    count = images if images > 1 else max(map(len, named.values()))
    for flag, values in named.items():
        if len(values) not in (1, count):
            raise BadInput(f"give {flag} once for all {count} results or once for each, not {len(values)} times.")
    return count


def read_inversion(arguments: Namespace, methods: Composed) -> Sources:
    """Read a saved inversion, which determines the source prompt, the seed and the parameters of the inversion.

    Raises:
        BadInput: the file is not an inversion that the methods support, or the command line contains options that the
            inversion determines.
    """
    from sfumato.images import MAX_PIXELS

    path = arguments.images[0]
    INVERSION.check(path)  # before torch is imported
    methods.check_unnamed(bool(arguments.sources) or arguments.seed is not None or arguments.seeds is not None)
    if arguments.max_pixels != MAX_PIXELS:
        raise BadInput("--max-pixels is for reading images, and an inversion contains its image: leave it out.")
    if arguments.resolution is not None or arguments.tiles:
        raise BadInput(
            "--resolution and --tiles are fixed in the file of an inversion: leave them out, or give the image."
        )
    if arguments.keep_gps:
        raise BadInput("--keep-gps is for images, and an inversion contains no EXIF: leave it out, or give the image.")
    from sfumato.inversion import Inversion

    inversion = Inversion.load(path)
    for method in methods.methods:
        method.check_accepts(inversion.kind)
    height, width = inversion.pixels.shape[1:3] if inversion.pixels is not None else (0, 0)
    prompts, targets = [*inversion.prompts] or [""], arguments.targets or [""]
    count = _count(len(prompts), {"--to": targets})
    resolution = inversion.parameters.get("resolution", "full")
    seeds = [*inversion.seeds] or [0]
    return Sources([(width, height)], count, prompts, targets, seeds, resolution, False, inversion=inversion)
