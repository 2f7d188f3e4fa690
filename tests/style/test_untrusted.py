"""Damaged files of style encoders and of PARASOL are read or refused in one line."""

import json
import random
from typing import Any

import pytest
from diffusers.models.attention_processor import Attention
from torch import nn

from sfumato.errors import BadInput
from sfumato.printing import one_line
from sfumato.style.encoder import StyleEncoder
from sfumato.style.tokens import Parasol
from tests.attacks.test_fuzz import ODD, as_json, damaged
from tests.style.small import random_tokens, style_encoder

CASES = 150


def parasol():
    layer = nn.ModuleDict({"attn2": Attention(16, cross_attention_dim=8, heads=2, dim_head=8)})
    return Parasol(random_tokens(8, unet=layer), "a" * 64, "b" * 64, "c" * 64)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("kind", "made"), [(StyleEncoder, style_encoder), (Parasol, parasol)])
def test_damaged_files_are_read_or_refused(kind, made, tmp_path):
    path = tmp_path / "a.safetensors"
    made().save(path)
    whole = path.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    start, body = json.loads(whole[8 : 8 + length]), whole[8 + length :]
    header = json.loads(start["__metadata__"]["sfumato"])
    refused = 0
    for number in range(CASES):
        draw = random.Random(f"{kind.__name__} {number}")
        start["__metadata__"]["sfumato"] = as_json(header, draw).decode("utf-8", "replace")
        text = json.dumps(start).encode()
        text = damaged(text, draw) if draw.random() < 0.2 else text
        path.write_bytes(len(text).to_bytes(8, "little") + text + body)
        refused += bool(sentence := ending(kind, path))
        assert one_line(sentence) == sentence, number
    assert refused > CASES // 2


def ending(kind, path):
    """The message that refuses a file; "" if it is read."""
    try:
        kind.load(path)
    except BadInput as error:
        return str(error)
    return ""


@pytest.mark.parametrize(("kind", "made"), [(StyleEncoder, style_encoder), (Parasol, parasol)])
def test_invalid_tensors_are_refused(kind, made, tmp_path):
    path = tmp_path / "a.safetensors"
    made().save(path)
    kind.load(path)
    header = {name: getattr(made(), name, 1) for name in ("model", "content_encoder", "style_encoder")}
    own: dict[str, Any] = {}
    if kind is Parasol:
        tokens = made().tokens
        header |= tokens.sizes | {"layers": tokens.changes.layers, "captions": tokens.captions}
        own = {name: value.half() for name, value in tokens.state_dict().items()}
        kind.FORMAT.write(path, header, own)
        kind.load(path)
        for layers in ({"attn2": 1}, {"attn2": 16, "other": 16}, ["attn2"], {f"{n}": 16 for n in range(1001)}):
            kind.FORMAT.write(path, header | {"layers": layers}, own)
            with pytest.raises(BadInput, match="is not a PARASOL file, or is damaged"):
                kind.load(path)
    for odd in ODD:
        kind.FORMAT.write(path, header if kind is Parasol else {"size": 16}, own | {"null": odd})
        with pytest.raises(BadInput):
            kind.load(path)
