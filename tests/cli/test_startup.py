"""Arguments and files are checked before torch is imported; every command runs in a fork of one small process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sfumato.train.registry import MODULES, TASKS
from tests.tiny import tiny_image

EDIT = ("edit", "photo.png", "--to", "green", "-o", "out.png")
INDEX = b'{"unet": ["diffusers", "UNet2DModel"], "scheduler": ["diffusers", "DDPMScheduler"]}'


def weights(*names: str) -> bytes:
    """A safetensors file with one number per name."""
    header = {name: {"dtype": "F32", "shape": [1], "data_offsets": [4 * n, 4 * n + 4]} for n, name in enumerate(names)}
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(4 * len(names))


def tensors_of(name: str, header: str = "{") -> bytes:
    """A file of a format of sfumato without tensors, with this JSON header."""
    text = json.dumps({"__metadata__": {"format": name, "sfumato": header}}).encode()
    return len(text).to_bytes(8, "little") + text


#: Command line -> exit code.
COMMANDS = {
    ("--help",): 0,
    ("edit", "--help"): 0,
    ("edit", "--help", "--method", "self-guidance"): 0,
    ("edit", "--help", "--method", "prompt-to-prompt", "--method", "pix2pix-zero"): 0,
    ("sweep", "--help"): 0,
    ("invert", "--help"): 0,
    ("generate", "--help"): 0,
    ("directions", "apply", "--help"): 0,
    ("train", "--help"): 0,
    ("methods",): 0,
    ("methods", "diffuseit"): 0,
    ("models",): 0,
    ("edit", "nosuch.png", "--to", "green", "-o", "out.png"): 2,
    ("edit", "nosuch.safetensors", "--to", "green", "-o", "out.png"): 2,
    (*EDIT, "--method", "nosuch"): 2,
    (*EDIT, "--nosuch", "1"): 2,
    (*EDIT, "--steps", "0"): 2,
    (*EDIT, "--mask", "nosuch.png"): 2,
    (*EDIT, "--mask-words", "a,,b"): 2,
    (*EDIT, "--model", "nosuch"): 2,
    (*EDIT, "--dtype", "int8"): 2,
    (*EDIT, "--recipe", "photo.png"): 2,
    (*EDIT, "--preset", "nosuch"): 2,
    (*EDIT, "--method", "prompt-to-prompt", "--reweight", "red"): 2,
    (*EDIT, "--method", "self-guidance", "--place", "fox"): 2,
    (*EDIT, "--method", "pix2pix-zero", "--direction-file", "nosuch.safetensors"): 2,
    ("edit", "photo.png", "--to", "green", "-o", "photo.png"): 2,
    ("edit", "photo.png", "photo.png", "--to", "green", "--out-dir", "out"): 2,
    ("sweep", "nosuch.png", "--to", "green", "--grid", "skip=1,2", "-o", "out"): 2,
    ("invert", "nosuch.png", "-o", "out.safetensors"): 2,
    ("generate", "red", "-o", "out.png", "--model", "nosuch"): 2,
    ("directions", "apply", "nosuch.png", "nosuch.safetensors", "-o", "out.png"): 2,
    ("directions", "find", "-o", "out.png"): 2,
    ("interpolate", "nosuch.png", "photo.png", "-o", "out"): 2,
    ("metrics", "nosuch.png", "photo.png"): 2,
    ("train", "autoencoder", "nosuch.toml", "--out", "run"): 2,
    ("bench", "pairs", "--data", "nosuch", "--out", "run"): 2,
    ("demo", "--only", "nosuch"): 2,
}

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0f1e\nsize 4265146304\n"
#: Content of the files of broken models.
FILES = {
    "pointer.safetensors": POINTER,
    "page.safetensors": b"<!DOCTYPE html><html>Sign in</html>",
    "empty.safetensors": b"",
    "cut.safetensors": weights("model.diffusion_model.out.weight")[:-1],
    "lora.safetensors": weights("a.lora_up.weight", "a.lora_down.weight"),
    "half.safetensors": weights("a.lora_up.weight"),
    "word.safetensors": weights("<toy>"),
    "other.safetensors": weights("model.diffusion_model.out.weight", "first_stage_model.encoder.weight"),
    "nothing/README.md": b"",
    "fetched/model_index.json": POINTER,
    "flux/model_index.json": b'{"transformer": ["diffusers", "FluxTransformer2DModel"]}',
    "pixels/model_index.json": INDEX,
    "pixels/scheduler/config.json": b"{}",
    "pixels/unet/diffusion_pytorch_model.safetensors": weights("conv_in.weight"),
    "parts/model_index.json": INDEX,
    "pickled/model_index.json": INDEX,
    "pickled/unet/diffusion_pytorch_model.bin": b"",
}
FILES |= {
    "inversion.safetensors": tensors_of("sfumato.inversion.2"),
    "old.safetensors": tensors_of("sfumato.inversion.1"),
    "unread.safetensors": b"\xff" * 64,
    "clip/config.json": b'{"model_type": "clip"}',
    "clip/preprocessor_config.json": b'{"size": 16, "crop_size": 16, "image_mean": [0, 0, 0], "image_std": [1, 1, 1]}',
    "clip/model.safetensors": weights("logit_scale")[:-1],
    "convolutions/vgg.safetensors": weights("features.0.weight")[:-1],
    "bert/config.json": b'{"model_type": "bert"}',
    "bert/preprocessor_config.json": b'{"image_mean": [0, 0, 0], "image_std": [1, 1, 1]}',
}
SWEEP = ("sweep", "photo.png", "--grid", "skip=1,2", "-o", "out")
WORDS = ("edit", "photo.png", "--from", "red", "--to", "green", "-o", "out.png")
GUIDED = (*EDIT, "--from", "a red apple", "--method", "self-guidance")
AUTO = (*WORDS, "--auto")
STYLE = ("style", "photo.png", "photo.png", "-o", "out.png")
SAVED = ("edit", "--to", "green", "-o", "out.png")
PATH = ("interpolate", "photo.png", "photo.png", "-o", "out")
NO_TEXT = "pixels has no text input: leave the"
#: Command line -> part of its error message.
MESSAGES = {
    ("edit", "photo.png", "-o", "out.png"): "The target prompt (--to) is empty",
    (*EDIT, "--to", " "): "The target prompt (--to) is empty",
    (
        "edit",
        "photo.png",
        "-o",
        "out.png",
        "--method",
        "colour",
        "--method",
        "ddim",
        "--model",
        "pointer.safetensors",
    ): ("pointer.safetensors is a Git LFS pointer"),
    (*EDIT, "--method", "prompt-to-prompt"): "The source prompt (--from) is empty",
    (*EDIT, "--from", "a", "--from", "b", "--to", "c", "--to", "d"): "give --from once for all 3 results",
    (*EDIT, "--negative-prompt", "(red:11)", "--prompt-weights"): "must be from 0 to 10",
    (*EDIT, "--model", "pixels"): f"{NO_TEXT} target prompt (--to) empty",
    ("invert", "photo.png", "--from", "red", "-o", "out.safetensors", "--model", "pixels"): f"{NO_TEXT} source prompt",
    ("invert", "photo.png", "-o", "out.safetensors", "--method", "pix2pix-zero"): "source prompt (--from) is empty",
    SWEEP: "The target prompt (--to) is empty",
    (*SWEEP, "--method", "colour", "--model", "page.safetensors"): "page.safetensors is a web page",
    ("generate", "-o", "out.png"): "The prompt is empty",
    ("generate", "red", "", "-o", "out.png"): "The prompt is empty",
    (*PATH, "--from", "red", "green", "--model", "pixels"): f"{NO_TEXT} prompt (--from) empty",
    (*PATH, "--rank", "3"): "rank is the dimension of tangent spaces",
    ("interpolate", "photo.png", "wide.png", "-o", "out"): "not 30 x 22 and 31 x 22",
    ("style", "photo.png", "photo.png", "-o", "out.png", "--from", "(red:11)", "--prompt-weights"): "from 0 to 10",
    **{
        (*EDIT, "--model", model): text
        for model, text in {
            "pointer.safetensors": "for a file of 4,265,146,304 bytes: run `git lfs pull`",
            "page.safetensors": "is a web page (HTML)",
            "empty.safetensors": "is empty (0 bytes)",
            "cut.safetensors": "is cut short",
            "lora.safetensors": "is a LoRA, not a complete model",
            "word.safetensors": "is a textual inversion",
            "other.safetensors": "is not of the architecture of Stable Diffusion",
            "nothing": "has no model_index.json",
            "fetched": "is a Git LFS pointer",
            "flux": "it has transformer (FluxTransformer2DModel)",
            "parts": "parts lacks its part unet",
            "pickled": "contains pickled weights",
        }.items()
    },
    (*EDIT, "--model", "other.safetensors", "--config", "nothing"): "nothing has no model_index.json",
    (*EDIT, "--config", "pixels"): "--config (in Python: config=) is for a single .safetensors file",
    (*EDIT, "--lora", "word.safetensors"): "is not a LoRA",
    (*EDIT, "--lora", "half.safetensors"): "is incomplete",
    (*EDIT, "--lora", "pointer.safetensors:0.5"): "is a Git LFS pointer",
    (*EDIT, "--textual-inversion", "lora.safetensors"): "is not a textual inversion: it contains 2 tensors",
    ("generate", "red", "-o", "out.png", "--model", "empty.safetensors"): "is empty (0 bytes)",
    (*WORDS, "--mask-words", "cat"): 'The word "cat" of mask_words is in neither prompt',
    (*WORDS, "--mask-words", "red,green,blue"): 'The word "blue" of mask_words',
    (*SWEEP, "--from", "red", "--to", "green", "--mask-words", "cat"): "of mask_words is in neither prompt",
    (*WORDS, "--method", "prompt-to-prompt", "--reweight", "cat=2"): '"cat" of reweight is not in the target prompt',
    (*WORDS, "--method", "prompt-to-prompt", "--blend", "cat"): 'The word "cat" of blend is in neither prompt',
    (*WORDS, "--method", "objects", "--objects", "red cat"): '"red cat" of objects is not in the target prompt',
    (*GUIDED, "--move", "cat: 0.1, 0"): '"cat" of move is not in the source prompt "a red apple"',
    (*GUIDED, "--place", "cat: 0.1, 0"): '"cat" of place is not in the target prompt "green"',
    (*GUIDED, "--restyle", "apple: photo.png: a cat"): '"apple" of restyle is not in the prompt of its image, "a cat"',
    (*SWEEP, "--from", "red", "--to", "green", "--method", "prompt-to-prompt", "--reweight", "cat=2"): "of reweight is",
    ("generate", "red", "-o", "out.png", "--method", "objects", "--objects", "cat"): '"cat" of objects is not in the',
    (*EDIT, "--mask-as-is"): "--mask-as-is needs --mask",
    (*EDIT, "--model", ""): "The name of the model is empty",
    (*EDIT, "--lora", ""): "The name of the LoRA is empty",
    (*AUTO, "--clip", ""): "The name of the network is empty",
    (*WORDS[:-1], ""): "argument -o/--out: the path is empty: name a file or folder",
    (*SWEEP[:-1], ""): "the path is empty",
    ("data", "emoji", "--out", ""): "the path is empty",
    ("interpolate", "photo.png", "photo.png", "-o", ""): "the path is empty",
    (*SAVED, ".safetensors"): "There is no file .safetensors",
    (*EDIT, "--device", "tpu"): 'There is no device "tpu"',
    (*EDIT, "--device", "cuda:one"): 'There is no device "cuda:one"',
    ("index", ".", "--device", "tpu", "--out", "i"): 'There is no device "tpu"',
    ("bench", "pairs", "--data", ".", "--out", "run", "--device", "tpu"): 'There is no device "tpu"',
    (*EDIT, "--offload", "--device", "cpu"): "Offloading saves memory of a GPU",
    (*EDIT, "--negative-prompt", "grey", "--guidance", "1"): "A negative prompt has no effect at guidance scale 1",
    (
        "generate",
        "red",
        "-o",
        "out.png",
        "--negative-prompt",
        "grey",
        "--guidance",
        "1",
    ): "negative prompt has no effect",
    (*AUTO, "--clip", "nosuch"): "nosuch is not a folder",
    (*AUTO, "--clip", "nothing"): "nothing has no preprocessor_config.json",
    (*AUTO, "--clip", "clip"): "is cut short",
    (*AUTO, "--structure", "bert"): "has model_type 'bert'",
    (*AUTO, "--lpips", "page.safetensors"): "the LPIPS network must be 'efficientnet-lite0' or a folder",
    (*AUTO, "--lpips", "convolutions"): "is cut short",
    (*AUTO, "--lpips", "nothing"): "and 'nothing' is neither",
    (*AUTO, "--model", "pixels"): "pixels has no dual encoder that scores edits",
    (*SWEEP, "--to", "red", "--clip", "nothing"): "nothing has no preprocessor_config.json",
    ("bench", "pairs", "--data", ".", "--out", "run", "--clip", "nothing"): "nothing has no preprocessor_config.json",
    ("metrics", "photo.png", "photo.png", "--clip", "clip"): "is cut short",
    ("metrics", "photo.png", "photo.png", "--lpips", "nosuch"): "nosuch is not a folder",
    ("metrics", "photo.png", "photo.png", "--style", "photo.png", "--style-encoder", "nothing"): "no style.safetensors",
    (*PATH, "--measure", "--lpips", "nothing"): "and 'nothing' is neither",
    (*STYLE, "--parasol", "nosuch.safetensors"): "There is no file nosuch.safetensors",
    (*STYLE, "--parasol", "nothing"): "nothing is a folder",
    (*STYLE, "--parasol", "cut.safetensors"): "is cut short",
    (*STYLE, "--parasol", "inversion.safetensors"): "but not a PARASOL file",
    (*STYLE, "--style-encoder", "nothing"): "nothing contains no style.safetensors",
    (*STYLE, "--content-encoder", "clip"): "is cut short",
    (
        *EDIT,
        "--method",
        "asyrp",
        "--delta",
        "half.safetensors",
    ): "half.safetensors is a safetensors file, but not a delta-h",
    (*EDIT, "--method", "pix2pix-zero", "--direction-file", "unread.safetensors"): "claims a header of",
    (*EDIT, "--method", "pullback", "--directions", "empty.safetensors"): "is empty (0 bytes)",
    (*EDIT, "--method", "diffuseit", "--vit-folder", "nothing"): "nothing has no preprocessor_config.json",
    (*EDIT, "--method", "diffuseit", "--target-image", "page.safetensors"): "is a web page (HTML)",
    (*EDIT, "--method", "self-guidance", "--restyle", "red: page.safetensors: red"): "is a web page (HTML)",
    ("directions", "apply", "photo.png", "cut.safetensors", "-o", "out.png"): "is cut short",
    ("directions", "show", "word.safetensors"): "word.safetensors is a safetensors file, but not a set of directions",
    (*SAVED, "unread.safetensors"): "unread.safetensors is damaged or not a safetensors file",
    (*SAVED, "cut.safetensors"): "is cut short",
    (*SAVED, "old.safetensors"): "is an inversion of another version of sfumato",
    (*SAVED, "word.safetensors"): "word.safetensors is a safetensors file, but not an inversion",
    (*SAVED, "inversion.safetensors"): "inversion.safetensors is damaged: its header",
    ("index", ".", "--out", "i", "--content-encoder", "nothing"): "nothing has no preprocessor_config.json",
    ("index", ".", "--out", "i", "--style-encoder", "word.safetensors"): "but not a style encoder",
}

#: Runs each command line of argv[2:] in a fork, with stdout discarded; prints what went wrong.
SCRIPT = """
import ast, contextlib, io, os, sys
sys.path.insert(0, sys.argv[1])
import sfumato.cli
for line in sys.argv[2:]:
    words, wanted, message = ast.literal_eval(line)
    if (child := os.fork()) == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        with contextlib.redirect_stderr(io.StringIO()) as said:
            code = sfumato.cli.main(words)
        heavy = [name for name in ("torch", "diffusers", "transformers") if name in sys.modules]
        failed = code != wanted or heavy or message not in said.getvalue()
        if failed:
            print(words, "ended with", code, "and imported", heavy, said.getvalue(), file=sys.stderr)
        os._exit(bool(failed))
    if os.waitpid(child, 0)[1]:
        print("FAILED", words)
"""


@pytest.fixture(scope="module")
def failed(tmp_path_factory):
    """Output of the process: the command lines that import a large library or end with an unexpected exit code."""
    folder = tmp_path_factory.mktemp("startup")
    tiny_image(30, 22).save(folder / "photo.png")
    tiny_image(31, 22).save(folder / "wide.png")
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    before = sorted(folder.rglob("*"))
    lines = [repr((list(words), code, "")) for words, code in COMMANDS.items()]
    lines += [repr((list(words), 2, message)) for words, message in MESSAGES.items()]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(Path(__file__).parents[2]), *lines],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "XDG_CONFIG_HOME": str(folder)},
    )
    assert done.returncode == 0, done.stderr
    assert sorted(folder.rglob("*")) == before, done.stderr
    return done


@pytest.mark.parametrize("words", [*COMMANDS, *MESSAGES], ids=" ".join)
def test_no_large_library_is_imported(failed, words):
    assert f"FAILED {list(words)}" not in failed.stdout, failed.stderr


def test_task_modules_match_the_table():
    assert {name: TASKS[name].__module__ for name in TASKS if name in MODULES} == MODULES
    assert [name for name in TASKS if TASKS[name].__module__.startswith("sfumato.train")] == list(MODULES)
