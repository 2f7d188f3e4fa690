"""Weighted tokens equal those of the algorithm of compel 2.5.1 (DownweightMode.MASK), which is written out here."""

import math

import pytest
import torch

from sfumato.models.load import load_model

PROMPTS = {
    "a (red:1.5) cat": [("a", 1.0), ("red", 1.5), ("cat", 1.0)],
    "a (red:0.3) (cat:1.2)": [("a", 1.0), ("red", 0.3), ("cat", 1.2)],
    "a (red:0) cat": [("a", 1.0), ("red", 0.0), ("cat", 1.0)],
    "((a cat:1.2) red dog:1.1)": [("a cat", 1.2 * 1.1), ("red dog", 1.1)],
    "((a cat:0.8) red dog:0.5) star": [("a cat", 0.4), ("red dog", 0.5), ("star", 1.0)],
    "(red:0.5) (cat:0.5) dog": [("red cat", 0.5), ("dog", 1.0)],
    "(red:0.5) (cat:0.6) dog": [("red", 0.5), ("cat", 0.6), ("dog", 1.0)],
    r"(cat \(blue\):1.3) star": [("cat (blue)", 1.3), ("star", 1.0)],
    r"(cat (blue):0.7) star": [("cat (blue)", 0.7), ("star", 1.0)],
    "red cat": [("red cat", 1.0)],
}


@torch.no_grad()
@pytest.mark.parametrize("layout", ["sd", "sdxl"])
def test_tokens_match_compel(layout, tiny_folder):
    weighted, plain = (
        load_model(tiny_folder(layout), "cpu", prompt_weights=True),
        load_model(tiny_folder(layout), "cpu"),
    )
    several = len(plain.text_encoders) > 1
    for prompt, fragments in PROMPTS.items():
        found = weighted.condition(prompt)
        expected = torch.cat([compel(each, fragments, several) for each in plain.text_encoders], dim=-1)
        torch.testing.assert_close(found.tokens[0], expected, atol=3e-6, rtol=1e-6)
        base = plain.condition(" ".join(text for text, _ in fragments))
        assert found.prompts[0].words == base.prompts[0].words
        if several:  # compel does not weight it, either
            assert torch.equal(found.pooled, base.pooled)


def compel(text, fragments, several):
    """Compel's algorithm: for every fragment of weight w below 1, an additional encoding with the fragment masked.

    The mean of the encodings has the weights tan((1 - w) pi / 2), and 1 for the complete prompt, divided by their sum.
    Fragments are tokenized separately.
    """
    tokenizer = text.tokenizer
    ids, weights, ranges = [tokenizer.bos_token_id], [1.0], []
    for words, weight in fragments:
        inner = tokenizer(words).input_ids[1:-1]
        ranges.append((len(ids), len(ids) + len(inner), weight))
        ids, weights = ids + inner, weights + [weight] * len(inner)
    ids = [*ids, tokenizer.eos_token_id]
    ids += [tokenizer.pad_token_id] * (77 - len(ids))
    empty = [tokenizer.bos_token_id, tokenizer.eos_token_id] + [tokenizer.pad_token_id] * 75
    origin = states(text, empty, [1] * 77, several)
    encodings, shares = [], []
    for first, stop, weight in [(0, 0, None), *(each for each in ranges if each[2] < 1)]:
        mask = [int(not first <= place < stop) for place in range(77)]
        z = states(text, ids, mask, several)
        scaled = [e + w * (each - e) for e, w, each in zip(origin, weights + [1.0] * 77, z, strict=False)]
        encodings.append(torch.stack(scaled))
        shares.append(1.0 if weight is None else math.tan((1 - max(1e-5, weight)) * math.pi / 2))
    return sum(share / sum(shares) * each for share, each in zip(shares, encodings, strict=True))


def states(text, ids, mask, several):
    found = text.encoder(torch.tensor([ids]), attention_mask=torch.tensor([mask]), output_hidden_states=True)
    return found.hidden_states[-2][0] if several else found.last_hidden_state[0]
