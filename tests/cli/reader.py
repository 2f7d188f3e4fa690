"""The working folder for the examples of the documentation: package, images, a small corpus, and short recipes."""

import json
import shutil
import tomllib
from pathlib import Path

from sfumato.data.emoji import build
from sfumato.editing.registry import METHODS
from sfumato.metrics.evaluator import SHIPPED
from sfumato.models.bundled import BUNDLED
from tests.data import fake
from tests.style.small import shapes
from tests.tiny import tiny_image
from tests.train.conftest import write_image_folder

ROOT = Path(__file__).parents[2]
IMAGES = ("scene", "a", "b", "cat")


def prepare(folder: Path, tiny_model: Path) -> Path:
    """Fill the working folder; returns the folder of bundled models, which contains a tiny model of few steps."""
    (folder / "sfumato").symlink_to(ROOT / "sfumato")
    bundled = folder / "bundled"
    shutil.copytree(tiny_model, bundled / "emoji")
    shutil.copytree(SHIPPED, bundled / "emoji" / "dual_encoder")
    sections = {each.section: {"steps": 3} for each in METHODS.values() if each.section}
    sections |= shortened_defaults(json.loads((BUNDLED / "emoji" / "sfumato.json").read_text()))
    (bundled / "emoji" / "sfumato.json").write_text(json.dumps(sections))
    tiny_image(30, 22).save(folder / "photo.jpg")
    for number, name in enumerate(IMAGES):
        tiny_image(32, 32, seed=number).save(folder / f"{name}.png")
    tiny_image(32, 32).save(folder / "painting.png")
    shapes(folder / "photos", 6)
    (folder / "photos" / "one").rename(folder / "photos" / "summer")
    write_image_folder(folder / "data" / "own")
    (folder / "recipes").mkdir()
    for path in (ROOT / "recipes").glob("*.toml"):
        (folder / "recipes" / path.name).write_text(as_toml(shortened(tomllib.loads(path.read_text()))))
    return bundled


def shortened_defaults(table: dict) -> dict:
    """The defaults of a model with three steps in every run."""
    few = {"steps": 3, "skip": 1}
    return {
        key: shortened_defaults(each) if isinstance(each, dict) else few.get(key, each) for key, each in table.items()
    }


def shortened(recipe: dict) -> dict:
    """The recipe with one step of few samples and a narrow U-Net, on all images of a corpus."""
    data = {name: value for name, value in recipe["data"].items() if name in ("folder", "size", "crop")}
    data |= {"scenes": 4} if "scenes" in recipe["data"] else {}
    run = {"steps": 1, "checkpoint_every": 1, "sample_every": 1_000_000, "precision": "fp32"}
    optim = recipe["optim"] | {"batch": 8, "warmup": 1}
    optim.pop("decay_start", None)
    few = {"delta-h": {"steps": 2, "images": 2}, "style": {"least": 2}}
    network = recipe["network"] | few.get(recipe["kind"], {})
    if recipe["kind"] == "diffusion":
        levels = len(network["channels"])
        network |= {"channels": [network["groups"]] * levels, "heads": [1] * levels}
    return recipe | {"data": data, "run": run, "optim": optim, "network": network}


def build_small(out: Path, *, cache: Path, **_: object) -> object:
    """In place of `build`: two styles of a few drawings, some of them in the splits `test` and `cells`."""
    more = {"1f34e": "red-apple", "1f34f": "green-apple", "1f629": "weary-face", "1f642": "smiling-face"}
    drawings = fake.many(20) | more
    fake.iconify(cache, "noto", drawings)
    fake.iconify(cache, "twemoji", dict(reversed(drawings.items())))  # with other shapes
    return build(out, cache=cache, styles=["noto", "twemoji"], size=32, workers=1)


def as_toml(table: dict, name: str = "") -> str:
    """A table of JSON's scalars, lists and tables as TOML."""
    lines = [f"[{name}]"] if name else []
    lines += [f"{key} = {json.dumps(value)}" for key, value in table.items() if not isinstance(value, dict)]
    below = {f"{name}.{key}" if name else key: value for key, value in table.items() if isinstance(value, dict)}
    return "\n".join([*lines, *(as_toml(value, key) for key, value in below.items())])
