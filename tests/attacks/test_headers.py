"""Safetensors headers that would take minutes to parse are refused before the library opens them."""

import time

import pytest
import torch

from sfumato.geometry import Directions
from sfumato.inversion import Inversion
from sfumato.safetensors_files import MAX_HEADER_BYTES, check_header
from sfumato.shifts.text_direction import TextDirection
from tests.attacks.headers import many, with_header
from tests.attacks.limits import peak, refused


@pytest.mark.parametrize("load", [Inversion.load, Directions.load, TextDirection.load])
def test_oversized_headers_are_refused(tmp_path, load):
    path = tmp_path / "a.safetensors"
    before, began = peak(), time.process_time()
    for header, length in ((many(20_001), None), (b"{" * (MAX_HEADER_BYTES + 1), None), (b"{}", 2**63), (b"{}", 10**8)):
        with refused("a.safetensors"):
            load(with_header(path, header, length))
    assert time.process_time() - began < 5
    assert peak() - before < 200 << 20


@pytest.mark.parametrize(
    "header",
    [
        "[" * 5000,
        '{"a":' * 500 + "1" + "}" * 500,
        '{"a": ' + "1" * 5000 + "}",
        '{"kind": "\\ud800"}',
        "",
        "null",
        "[]",
        "3",
    ],
)
def test_invalid_metadata_in_the_header_is_refused(tmp_path, header):
    path = tmp_path / "a.safetensors"
    for load, kind in ((Inversion.load, Inversion), (Directions.load, Directions), (TextDirection.load, TextDirection)):
        with_header(path, many(1, {"format": kind.FORMAT.name, "sfumato": header}))
        with refused("damaged"):
            load(path)


def test_check_header_limits_the_number_of_tensors(tmp_path):
    check_header(with_header(tmp_path / "a", many(19_000)), "give another")
    with refused("more than 10 tensors"):
        check_header(tmp_path / "a", "give another", 10)
    with refused("is a folder"):
        check_header(tmp_path, "give another")


def test_directions_with_invalid_fields_are_refused(tmp_path):
    whole = Directions(torch.eye(2), ("a", "b"), "pca", "m", 5, 10, 3, (4, 8, 8), "sum", (1.0, 2.0), (1.0, 1.0), 9, ())
    whole.save(tmp_path / "a.safetensors")
    assert Directions.load(tmp_path / "a.safetensors").names == ("a", "b")
    header = {name: getattr(whole, name) for name in ("names", "kind", "model", "t", "steps", "step", "latent", "pool")}
    header |= {name: getattr(whole, name) for name in ("values", "overlap", "samples", "prompts")}
    changes = {"names": [1.5, "b"], "model": 3, "values": ["x", 1], "prompts": [None], "latent": "abc", "samples": "9"}
    for name, value in changes.items():
        Directions.FORMAT.write(tmp_path / "b.safetensors", header | {name: value}, {"u": whole.u})
        with refused("damaged"):
            Directions.load(tmp_path / "b.safetensors")
    with refused("There is no direction"):
        whole.index("9" * 5000)
    assert whole.renamed({"1": "9" * 5000}).names == ("9" * 5000, "b")
