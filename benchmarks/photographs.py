"""Large images edited at the model's size: cost and memory by image size, and three ways to upsample the edit.

OMP_NUM_THREADS=1 python -m benchmarks.photographs                     # cost, one process per size
python -m benchmarks.photographs --model out/stand-in --steps 2 --sizes 6000x4000       # benchmarks/stand_in.py
python -m benchmarks.photographs --photographs a.jpg b.jpg c.jpg       # PSNR against edits made at full size
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from sfumato.images import read_image
from sfumato.images.upsampling import upsampled_edit

SIZES = ("451x300", "1600x1200", "4000x3000", "6000x4000")
FACTORS = (24, 8, 3)


def scene(width: int, height: int) -> NDArray[np.uint8]:
    """A red disc on a ground with fine noise of 8 levels, uint8 [h,w,3]."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) / height
    disc = np.hypot(x - width / height / 2, y - 0.5) < 0.35
    pixels = np.where(disc[..., None], [215, 45, 50], [240, 240, 235]).astype(np.float32)
    pixels += np.random.default_rng(0).normal(0, 8, (height, width, 1)).astype(np.float32)
    return pixels.clip(0, 255).astype(np.uint8)


def cost(path: str, name: str, steps: int) -> str:
    """CPU seconds and peak memory of one edit, from reading to writing."""
    import sfumato

    model, began = sfumato.load(name, "cpu"), time.process_time()
    loaded = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    plan = model.plan(read_image(path), "red circle, twemoji", "blue circle, twemoji", steps=steps, skip=steps // 5)
    result = plan.run().result
    result.save(Path(path).with_suffix(".png"))
    width, height = result.sources[0].size
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    edited = " x ".join(map(str, result.recipes[0]["edited_size"]))
    return (
        f"{width} x {height} at {edited}: {time.process_time() - began:.1f} CPU s without start-up, "
        f"peak {peak:.2f} GiB, {loaded:.2f} GiB after loading"
    )


def edits(photographs: list[Tensor]) -> Iterator[tuple[str, Tensor, Tensor]]:
    """(kind, photograph, edit at full size) of known edits inside a disc."""
    matrix = torch.tensor([[0.1, 0.8, 0.1], [0.1, 0.1, 0.8], [0.8, 0.1, 0.1]])
    for n, photo in enumerate(photographs):
        height, width = photo.shape[1:]
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        distance = (((x - width / 2) ** 2 + (y - height / 2) ** 2).float().sqrt() - 0.3 * height) / 0.7
        disc = torch.sigmoid(-distance)
        ball = torch.stack([0.6 - x / width, -0.2 - 0.3 * y / height, -0.4 - 0.2 * x / width])
        other = F.interpolate(photographs[n - 1][None], size=(height, width), mode="bicubic", antialias=True)[0]
        for kind, inside in (
            ("colours", torch.einsum("ij,jhw->ihw", matrix, photo)),
            ("covered", ball),
            ("replaced", other),
        ):
            yield kind, photo, (1 - disc) * photo + disc * inside.clamp(-1, 1)


def enlarged(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Bicubic interpolation, antialiased where it reduces."""
    return F.interpolate(x[None], size=size, mode="bicubic", align_corners=False, antialias=True)[0]


def change_added(edited: Tensor, source: Tensor, photo: Tensor) -> Tensor:
    """The enlarged change added to the photograph."""
    return photo + enlarged(edited - source, (photo.shape[1], photo.shape[2]))


def residual_added(edited: Tensor, source: Tensor, photo: Tensor) -> Tensor:
    """The enlarged edit plus the detail of the photograph where nothing changed, as with the autoencoder's residual."""
    from sfumato.api.finish import add_residual

    size = (photo.shape[1], photo.shape[2])
    radius = size[0] / edited.shape[1]
    up, decoded = (enlarged(each, size)[None] for each in (edited, source))
    return add_residual(up, decoded, photo[None], radius)[0]


def guided(edited: Tensor, source: Tensor, photo: Tensor) -> Tensor:
    """The method of `sfumato.images.upsampling`."""
    pixels = ((photo + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0).numpy()
    return torch.cat([part for _, part in upsampled_edit(edited, source, pixels)], dim=1)


def quality(paths: list[str]) -> Iterator[str]:
    """Mean PSNR in dB of each method, by kind of edit and reduction factor."""
    ways: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
        "change added": change_added,
        "residual added": residual_added,
        "guided": guided,
    }
    photographs = [torch.from_numpy(read_image(path).rgb.copy()).permute(2, 0, 1).float() / 127.5 - 1 for path in paths]
    for factor in FACTORS:
        found: dict[str, dict[str, list[float]]] = {}
        for kind, photo, wanted in edits(photographs):
            size = (photo.shape[1] // factor, photo.shape[2] // factor)
            source, edited = (enlarged(each, size).clamp(-1, 1) for each in (photo, wanted))
            for name, way in ways.items():
                mse = float((way(edited, source, photo).clamp(-1, 1) - wanted).square().mean())
                found.setdefault(kind, {}).setdefault(name, []).append(10 * np.log10(4 / mse))
        for kind, rows in found.items():
            yield f"1/{factor} {kind:9} " + "  ".join(f"{name} {np.mean(each):.1f}" for name, each in rows.items())


def main() -> None:
    """Print the measurements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", nargs="+", help="photographs for the comparison of the ways")
    parser.add_argument("--model", default="emoji", help="bundled name or folder")
    parser.add_argument("--steps", type=int, default=50, help="steps of the run")
    parser.add_argument("--sizes", nargs="+", default=SIZES, metavar="WIDTHxHEIGHT", help="sizes of the images")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    chosen = ["--model", arguments.model, "--steps", str(arguments.steps)]
    if arguments.one:
        print(cost(arguments.one, arguments.model, arguments.steps))
    elif arguments.photographs:
        print("\n".join(quality(arguments.photographs)))
    else:
        with tempfile.TemporaryDirectory() as folder:
            for size in arguments.sizes:
                path = f"{folder}/{size}.jpg"
                Image.fromarray(scene(*map(int, size.split("x")))).save(path, quality=95)
                subprocess.run([sys.executable, "-m", "benchmarks.photographs", "--one", path, *chosen], check=True)


if __name__ == "__main__":
    main()
