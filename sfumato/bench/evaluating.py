"""Metrics of edits of one size, computed in one batch, and the fingerprint of the evaluator."""

import json
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sfumato.bench.items import Item, ItemImages, Scores
from sfumato.metrics import Evaluator, Metric, measure
from sfumato.models.fingerprint import add_tensor


def stacked(pixels: Sequence[NDArray[np.uint8]]) -> Tensor:
    """Stack uint8 images [h,w,3] to float32 [b,3,h,w] in [0,1]."""
    return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float() / 255


def stacked_masks(images: Sequence[ItemImages]) -> Tensor | None:
    """Stack the masks to float32 [b,h,w]; None unless every image has a mask."""
    masks = [each.mask for each in images if each.mask is not None]
    return torch.from_numpy(np.stack(masks)).float() if len(masks) == len(images) else None


def evaluate(
    evaluator: Evaluator,
    metrics: Mapping[str, Metric],
    items: Sequence[Item],
    images: Sequence[ItemImages],
    edits: Sequence[NDArray[np.uint8]],
    plain: Callable[[Sequence[str]], list[str]] = list,
) -> Scores:
    """Compute the metrics whose inputs are available for all edits.

    Args:
        evaluator: networks that compute the metrics.
        metrics: the metrics by name.
        items: the edits.
        images: their images, all of one size.
        edits: the edited images, uint8 [h,w,3], of the same size.
        plain: removes prompt weights from texts, as `Model.plain`; by default texts are scored as they are.

    Returns:
        One value per edit for each metric, NaN if undefined.

    Raises:
        BadInput: as `Evaluator.batch`, or the evaluator's text encoder cannot read a text.
    """
    targets = [each.target for each in images if each.target is not None]
    batch = evaluator.batch(
        stacked([each.source for each in images]),
        stacked(edits),
        target=stacked(targets) if len(targets) == len(images) else None,
        mask=stacked_masks(images),
        source_texts=plain([item.source_text for item in items]),
        target_texts=plain([item.target_text for item in items]),
    )
    return {name: values.tolist() for name, values in measure(metrics, batch).items()}


def evaluator_fingerprint(evaluator: Evaluator) -> str:
    """SHA-256, in hexadecimal, of everything that the results of an evaluator depend on.

    These are the weights, the buffers (learned weights of LPIPS, image mean and standard deviation), and the
    preprocessor and tokenizer of the dual encoder.
    """
    digest = sha256()
    networks = {"clip": evaluator.clip.model, "perceptual": evaluator.perceptual, "structure": evaluator.structure}
    for part, network in networks.items():
        for name, values in sorted(chain(network.named_parameters(), network.named_buffers())):
            if values.is_floating_point():  # integer buffers are position ids and counters
                add_tensor(digest, f"{part}.{name}", values)
    tokenizer = json.loads(evaluator.clip.tokenizer.backend_tokenizer.to_str())
    for state_of_last_call in ("padding", "truncation"):
        tokenizer.pop(state_of_last_call, None)
    digest.update(f"{evaluator.clip.preprocessor} {json.dumps(tokenizer, sort_keys=True)}".encode())
    return digest.hexdigest()
