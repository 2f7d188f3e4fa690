"""The metrics of edits of one size, computed together, and the identity of the evaluator."""

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sfumato.bench.items import Item, Pictures, Scores
from sfumato.metrics import Evaluator, Metric, measure
from sfumato.models.fingerprint import add_tensor


def stacked(pixels: Sequence[NDArray[np.uint8]]) -> Tensor:
    """uint8 pictures [h,w,3] as float32 [b,3,h,w] in [0,1]."""
    return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float() / 255


def stacked_masks(pictures: Sequence[Pictures]) -> Tensor | None:
    """float32 [b,h,w], or None unless every picture has a mask."""
    masks = [each.mask for each in pictures if each.mask is not None]
    return torch.from_numpy(np.stack(masks)).float() if len(masks) == len(pictures) else None


def evaluate(
    evaluator: Evaluator,
    metrics: Mapping[str, Metric],
    items: Sequence[Item],
    pictures: Sequence[Pictures],
    edits: Sequence[NDArray[np.uint8]],
) -> Scores:
    """Those of the metrics that can be computed of all these edits, one number for each edit; NaN where it has none."""
    targets = [each.target for each in pictures if each.target is not None]
    batch = evaluator.batch(
        stacked([each.source for each in pictures]),
        stacked(edits),
        target=stacked(targets) if len(targets) == len(pictures) else None,
        mask=stacked_masks(pictures),
        source_texts=[item.source_text for item in items],
        target_texts=[item.target_text for item in items],
    )
    return {name: values.tolist() for name, values in measure(metrics, batch).items()}


def evaluator_fingerprint(evaluator: Evaluator) -> str:
    """SHA-256 over all that the numbers of an evaluator depend on, in hexadecimal.

    Weights; buffers too, which hold LPIPS's learned weights and the statistics of pictures; how pictures and texts are
    made ready for the dual encoder.
    """
    digest = sha256()
    networks = {"clip": evaluator.clip.model, "perceptual": evaluator.perceptual, "structure": evaluator.structure}
    for part, network in networks.items():
        for name, values in sorted(chain(network.named_parameters(), network.named_buffers())):
            if values.is_floating_point():  # the others are positions and counters
                add_tensor(digest, f"{part}.{name}", values)
    tokenizer = json.loads(evaluator.clip.tokenizer.backend_tokenizer.to_str())
    for state_of_last_call in ("padding", "truncation"):
        tokenizer.pop(state_of_last_call, None)
    digest.update(f"{evaluator.clip.preprocessor} {json.dumps(tokenizer, sort_keys=True)}".encode())
    return digest.hexdigest()
