"""Objects on plain ground: their boxes, and whether a dual encoder finds the named ones among them.

A picture of several objects is cut at its ground, the colour of its border; every connected part is one object, and is
shown to the dual encoder alone, centred on white. It is found where its own name comes first among many.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from sfumato.metrics.text import DualEncoder

#: Largest difference from the ground, over the channels in [0,1], that still counts as ground.
GROUND_TOLERANCE = 0.12
#: Parts smaller than this share of the picture are not objects.
SMALLEST_SHARE = 0.01
#: Parts that are so near to one another, as a share of the side, are one object.
GAP = 0.025
#: Longest side of an object that is shown alone, as a share of the picture: as in the training pictures.
_CONTENT = 112 / 128

#: (left, top, right, bottom) in pixels; right and bottom exclusive.
Box = tuple[int, int, int, int]


def foreground(picture: Float[Tensor, "3 h w"]) -> Bool[Tensor, "h w"]:
    """Where a picture in [0, 1] differs from the median colour of its border."""
    border = torch.cat([picture[:, 0], picture[:, -1], picture[:, :, 0], picture[:, :, -1]], dim=1)
    ground = border.median(dim=1).values
    return (picture - ground[:, None, None]).abs().amax(0) > GROUND_TOLERANCE


def object_boxes(picture: Float[Tensor, "3 h w"]) -> list[Box]:
    """The boxes of the connected parts of the foreground, largest first."""
    covered = foreground(picture)
    parts = _components(_widened(covered, round(GAP * min(covered.shape))))
    boxes = [_box(covered & (parts == label)) for label in parts.unique().tolist() if label]
    large = [box for box in boxes if box and _area(box) >= SMALLEST_SHARE * covered.numel()]
    return sorted(large, key=_area, reverse=True)


def alone(picture: Float[Tensor, "3 h w"], box: Box) -> Float[Tensor, "3 h w"]:
    """One object of a picture on white, centred, its longest side 112/128 of the picture's shorter side."""
    left, top, right, bottom = box
    covered = _widened(foreground(picture), 1)[top:bottom, left:right]
    cut = torch.where(covered, picture[:, top:bottom, left:right], torch.ones(()))
    h, w = picture.shape[1:]
    scale = _CONTENT * min(h, w) / max(cut.shape[1:])
    height, width = (max(1, round(side * scale)) for side in cut.shape[1:])
    cut = F.interpolate(cut[None], (height, width), mode="bicubic", antialias=True)[0].clamp(0, 1)
    page = torch.ones(3, h, w)
    y, x = (h - height) // 2, (w - width) // 2
    page[:, y : y + height, x : x + width] = cut
    return page


def found_boxes(
    evaluator: DualEncoder, picture: Float[Tensor, "3 h w"], captions: Sequence[str], others: Sequence[str]
) -> list[Box | None]:
    """For each caption the box of the object that it names; None where no object of the picture has it first.

    Args:
        evaluator: compares pictures with texts.
        picture: in [0, 1].
        captions: of the objects that should be there, such as "cat face, noto".
        others: captions of what is not there; a caption is found where its similarity exceeds that of all others.

    Returns:
        One box or None per caption. Of several objects that a caption names, the one that fits best; two captions never
        share an object.
    """
    boxes = object_boxes(picture)
    if not boxes:
        return [None] * len(captions)
    pictures = torch.stack([alone(picture, box) for box in boxes])
    similarity = evaluator.image_features(pictures) @ evaluator.text_features([*captions, *others]).T
    named = similarity[:, : len(captions)]
    fits = named >= similarity.amax(1, keepdim=True)
    scores = torch.where(fits, named, -torch.inf)
    chosen = scores.argmax(0)
    return [boxes[chosen[k]] if scores[chosen[k], k] > -torch.inf else None for k in range(len(captions))]


def _widened(mask: Bool[Tensor, "h w"], by: int) -> Bool[Tensor, "h w"]:
    return F.max_pool2d(mask[None, None].float(), 2 * by + 1, stride=1, padding=by)[0, 0] > 0


def _components(mask: Bool[Tensor, "h w"]) -> Int[Tensor, "h w"]:
    """A label above 0 for each connected part (of 8 neighbours), 0 elsewhere."""
    labels = torch.arange(1, mask.numel() + 1, dtype=torch.float32).reshape(mask.shape) * mask
    while True:
        spread = F.max_pool2d(labels[None, None], 3, stride=1, padding=1)[0, 0] * mask
        if torch.equal(spread, labels):
            return labels.int()
        labels = spread


def _box(mask: Bool[Tensor, "h w"]) -> Box | None:
    rows, columns = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
    if not len(rows):
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _area(box: Box) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])
