"""Errors for failed downloads name the content: LFS pointers, web pages, archives, truncated or empty files."""

import gzip
import io
import pickle
import shutil
import struct

import pytest
import torch
from safetensors.torch import save, save_file

from sfumato.downloads import mistaken_weights
from sfumato.errors import BadInput
from sfumato.images import read_image
from sfumato.inversion import Inversion
from sfumato.models.load import load_model
from sfumato.networks.weights import single_file_weights
from sfumato.safetensors_files import check_header
from sfumato.text_files import read_json, read_text, read_toml

WHOLE = save({"a": torch.arange(600.0), "b": torch.ones(3, 5)})


def pointer(size):
    return b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"7e" * 32 + f"\nsize {size}\n".encode()


def pickled():
    out = io.BytesIO()
    torch.save({"a": torch.zeros(3)}, out)
    return out.getvalue()


PAGES = {
    "page": b"\n<!DOCTYPE HTML PUBLIC '-//W3C//DTD HTML 4.01//EN'><HTML><body>Sign in</body></HTML>",
    "page with a mark": b"\xef\xbb\xbf<html lang='en'><head><title>Access to model is restricted</title></head></html>",
}
ARRIVED = {
    "pointer": (pointer(3_438_167_540), r"Git LFS pointer, 13\d bytes .* of 3,438,167,540 bytes: run `git lfs pull`"),
    **{name: (content, r"web page \(HTML\).*download the file itself") for name, content in PAGES.items()},
    "error of a store": (
        b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>AccessDenied</Code></Error>', "error message of a server"
    ),
    "error of a hub": (b'{"error":"Repository not found"}', "text that begins with .*Repository not found"),
    "words": (b"Entry not found", 'text that begins with "Entry not found"'),
    "nothing": (b"", r"is empty \(0 bytes\)"),
    "zeros": (bytes(5000), "begins with zeros"),
    "pickle": (pickled(), "pickle under another name"),
    "old pickle": (pickle.dumps({"a": 1}), "pickle under another name"),
    "gzip": (gzip.compress(WHOLE), "compressed archive"),
    "gguf": (b"GGUF\x03\0\0\0" + bytes(64), "GGUF file"),
}  # fmt: skip


@pytest.mark.parametrize("kind", ARRIVED)
def test_error_names_the_content_found_instead_of_weights(kind, tmp_path):
    content, says = ARRIVED[kind]
    (tmp_path / "weights.safetensors").write_bytes(content)
    for read in (single_file_weights, lambda path: check_header(path, "give another"), Inversion.load):
        with pytest.raises(BadInput, match=rf"weights\.safetensors .*{says}"):
            read(tmp_path / "weights.safetensors")


@pytest.mark.parametrize("missing", [1, 60, 2000, len(WHOLE) - 40, len(WHOLE) - 9])
def test_truncated_file_error_states_the_size(missing, tmp_path):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(WHOLE[:-missing])
    there = len(WHOLE) - missing
    header = int.from_bytes(WHOLE[:8], "little")
    wanted = f"{len(WHOLE):,}" if there >= 8 + header else "at least "
    with pytest.raises(BadInput, match=rf"cut short, {there:,} of {wanted}.* bytes: download or copy it again"):
        single_file_weights(path)


def test_complete_file_is_read(tmp_path):
    (tmp_path / "weights.safetensors").write_bytes(WHOLE)
    assert single_file_weights(tmp_path / "weights.safetensors").shapes == {"a": (600,), "b": (3, 5)}
    save_file({}, tmp_path / "empty.safetensors")
    assert single_file_weights(tmp_path / "empty.safetensors").shapes == {}


PARTS = (
    "unet/diffusion_pytorch_model.safetensors",
    "vae/diffusion_pytorch_model.safetensors",
    "text_encoder/model.safetensors",
    "unet/config.json",
    "text_encoder/config.json",
    "scheduler/scheduler_config.json",
    "tokenizer/tokenizer_config.json",
    "model_index.json",
)


@pytest.mark.parametrize("part", PARTS)
def test_error_for_every_part_of_a_folder(part, tiny_sd_folder, tmp_path):
    folder = shutil.copytree(tiny_sd_folder, tmp_path / "model")
    name = part.rpartition("/")[2]
    for content, says in ((pointer(335), "Git LFS pointer"), (PAGES["page"], "web page"), (b"", "empty")):
        (folder / part).write_bytes(content)
        with pytest.raises(BadInput, match=rf"{name}.*{says}"):
            load_model(folder, "cpu")


@pytest.mark.parametrize("name", ["vocab.json", "merges.txt", "tokenizer.json"])
def test_error_for_every_file_of_a_tokenizer(name, tiny_sd_folder, tmp_path):
    folder = shutil.copytree(tiny_sd_folder, tmp_path / "model")
    for content, says in ((pointer(335), "Git LFS pointer"), (PAGES["page"], "web page")):
        (folder / "tokenizer" / name).write_bytes(content)
        with pytest.raises(BadInput, match=rf"{name} is a .*{says}"):
            load_model(folder, "cpu")


def test_error_for_texts_and_images(tmp_path):
    for name, read in {
        "a.json": lambda path: read_json(path, "give another"),
        "a.txt": lambda path: read_text(path, "give another"),
        "a.toml": lambda path: read_toml(path, "give another"),
        "a.png": read_image,
    }.items():
        for content, says in ((pointer(99), "Git LFS pointer"), (PAGES["page with a mark"], "web page")):
            (tmp_path / name).write_bytes(content)
            with pytest.raises(BadInput, match=rf"{name} is a .*{says}"):
                read(tmp_path / name)


def test_text_that_mentions_html_is_accepted(tmp_path):
    (tmp_path / "a.txt").write_text("a photo of <html>\nversion 2\n")
    assert read_text(tmp_path / "a.txt", "give another") == "a photo of <html>\nversion 2\n"


@pytest.mark.parametrize("length", [0x0280, 0x0580, 0x8B1F, 0x685A42, 0x04034B50])
def test_header_length_equal_to_a_magic_number_is_accepted(length):
    """The first bytes of a safetensors file are the length of its header, which may be any number."""
    assert mistaken_weights(struct.pack("<Q", length) + b'{"a":{"dtype":"F32"', 10**6) == ""
    assert mistaken_weights(struct.pack("<Q", length) + b"x", 10**6) != ""
