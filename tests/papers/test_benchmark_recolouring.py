"""The scores of recoloured images on images with a known result, and the choice of images with a plain colour."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmarks import recolouring
from sfumato.data.dataset import CaptionedImages
from sfumato.errors import BadInput
from sfumato.methods.colour import rgb


def disc(colour, shade=0.0):
    """A disc of one colour on white, [3,32,32] in [-1, 1]; `shade` darkens it from left to right."""
    y, x = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    inside = ((x - 16) ** 2 + (y - 16) ** 2 < 120).float()
    light = 1 - shade * x / 31
    pixels = torch.tensor(rgb(colour)).float()[:, None, None] / 255 * light
    return 2 * (inside * pixels + 1 - inside) - 1, inside.bool()


def test_scores_of_an_exact_recolouring():
    source, _ = disc("red", 0.3)
    edited, _ = disc("green", 0.3)
    found = recolouring.scores(source, edited, "green")
    assert found["elsewhere"] == 0
    assert found["hue"] < 1
    assert found["texture"] > 0.95


def test_scores_of_wrong_edits():
    source, inside = disc("red", 0.3)
    found = recolouring.scores(source, disc("blue", 0.3)[0], "green")
    assert found["hue"] > 90
    flat = torch.where(inside, disc("green")[0], source)
    noise = 0.02 * torch.randn(flat.shape, generator=torch.Generator().manual_seed(0))
    assert recolouring.scores(source, flat + noise, "green")["texture"] < 0.3
    changed = torch.where(inside, disc("green", 0.3)[0], -torch.ones_like(source))
    assert recolouring.scores(source, changed, "green")["elsewhere"] > 0.5


def test_only_plain_colours_are_chosen_and_one_per_name():
    half = torch.cat([disc("red")[0][:, :16], disc("blue")[0][:, 16:]], dim=1)
    drawn = {"a, noto": disc("red")[0], "a, twemoji": disc("red")[0], "b, noto": half, "c, noto": disc("grey")[0]}
    pixels = np.stack([((each.numpy() + 1) * 127.5).astype(np.uint8) for each in drawn.values()])
    images = SimpleNamespace(images=pixels, captions=list(drawn))
    rows = recolouring.plain(images, 1)
    assert [images.captions[row][0] for row in rows] == ["a"]
    with pytest.raises(BadInput, match="1 images with a plain colour, not 2: lower --images"):
        recolouring.plain(images, 2)


def test_the_table_is_written(tmp_path, monkeypatch, tiny_folder, capsys):
    captions = [f"{name} circle, noto" for name in ("red", "blue", "green")]
    pixels = np.stack([((disc(name)[0].numpy() + 1) * 127.5).astype(np.uint8) for name in ("red", "blue", "green")])
    monkeypatch.setattr(
        CaptionedImages, "open", lambda *given, **named: SimpleNamespace(images=pixels, captions=captions)
    )
    out, page = tmp_path / "out.json", tmp_path / "page.md"
    page.write_text("<!-- measured: begin -->\n<!-- measured: end -->\n")
    words = ["--model", str(tiny_folder("sd")), "--images", "3", "--steps", "4", "--out", str(out), "--page", str(page)]
    assert recolouring.main(words) == 0
    found = json.loads(out.read_text())
    assert sorted(found["images"]) == sorted(captions)
    assert {len(found[f"{colour} default"]) for colour in recolouring.COLOURS} == {3}
    assert all(f"\n| `{colour}` |" in page.read_text() for colour in recolouring.COLOURS)
