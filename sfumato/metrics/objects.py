"""Detection of objects on a plain background, and recognition of the expected objects with a dual encoder.

The background consists of the pixels with the colour of the image's border. Every connected component of the other
pixels, at two distances within which components are joined, is a possible object. Each is cut out, centred on white and
compared with many captions, or with many images of single objects; an expected object is found if its caption, or its
image, has the highest similarity.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from sfumato.metrics.text import DualEncoder

#: Largest difference from the background colour, over the channels in [0,1], that counts as background.
GROUND_TOLERANCE = 0.12
#: Components with a smaller share of the image's area are ignored.
SMALLEST_SHARE = 0.01
#: Radii of the dilation that joins nearby components, as shares of the image's shorter side. The larger one joins the
#: parts of an object, and at times two objects, which the smaller one separates.
GAPS = (0.025, 0.0)
#: Longest side of an object that is cut out, as a share of the image's shorter side; as in the training images.
_CONTENT = 112 / 128

#: (left, top, right, bottom) in pixels; right and bottom exclusive.
Box = tuple[int, int, int, int]


def foreground(image: Float[Tensor, "3 h w"]) -> Bool[Tensor, "h w"]:
    """Mask of the pixels of an image in [0, 1] that differ from the median colour of its border."""
    border = torch.cat([image[:, 0], image[:, -1], image[:, :, 0], image[:, :, -1]], dim=1)
    ground = border.median(dim=1).values
    return (image - ground[:, None, None]).abs().amax(0) > GROUND_TOLERANCE


def object_boxes(image: Float[Tensor, "3 h w"], gap: float = GAPS[0]) -> list[Box]:
    """Bounding boxes of the connected components of the foreground, largest first.

    Args:
        image: the image, in [0, 1].
        gap: radius of the dilation that joins nearby components, as a share of the image's shorter side.
    """
    covered = foreground(image)
    parts = _components(_dilated(covered, round(gap * min(covered.shape))))
    boxes = [_box(covered & (parts == label)) for label in parts.unique().tolist() if label]
    large = [box for box in boxes if box and _area(box) >= SMALLEST_SHARE * covered.numel()]
    return sorted(large, key=_area, reverse=True)


def alone(image: Float[Tensor, "3 h w"], box: Box) -> Float[Tensor, "3 h w"]:
    """Cut out one object and centre it on white, its longest side 112/128 of the image's shorter side."""
    left, top, right, bottom = box
    covered = _dilated(foreground(image), 1)[top:bottom, left:right]
    cut = torch.where(covered, image[:, top:bottom, left:right], torch.ones(()))
    h, w = image.shape[1:]
    scale = _CONTENT * min(h, w) / max(cut.shape[1:])
    height, width = (max(1, round(side * scale)) for side in cut.shape[1:])
    cut = F.interpolate(cut[None], (height, width), mode="bicubic", antialias=True)[0].clamp(0, 1)
    page = torch.ones(3, h, w)
    y, x = (h - height) // 2, (w - width) // 2
    page[:, y : y + height, x : x + width] = cut
    return page


def found_boxes(
    evaluator: DualEncoder,
    image: Float[Tensor, "3 h w"],
    expected: Float[Tensor, "k d"],
    others: Float[Tensor, "n d"],
) -> list[Box | None]:
    """Find the expected objects.

    Args:
        evaluator: dual encoder that computes the features of the objects.
        image: the image, in [0, 1].
        expected: normalised features of the captions of the expected objects (such as "cat face, noto"), or of images
            of them, each on white and centred as by `alone`.
        others: features of captions or images of objects that are not expected.

    Returns:
        For each expected object, the box of the object in the image to which it is the most similar among `expected`
        and `others`; the best one if there are several such objects, None if there is no such object.
    """
    boxes = list(dict.fromkeys(box for gap in GAPS for box in object_boxes(image, gap)))
    if not boxes:
        return [None] * len(expected)
    images = torch.stack([alone(image, box) for box in boxes])
    similarity = evaluator.image_features(images) @ torch.cat([expected, others]).T
    named = similarity[:, : len(expected)]
    fits = named >= similarity.amax(1, keepdim=True)
    scores = torch.where(fits, named, -torch.inf)
    chosen = scores.argmax(0)
    return [boxes[chosen[k]] if scores[chosen[k], k] > -torch.inf else None for k in range(len(expected))]


def _dilated(mask: Bool[Tensor, "h w"], by: int) -> Bool[Tensor, "h w"]:
    return F.max_pool2d(mask[None, None].float(), 2 * by + 1, stride=1, padding=by)[0, 0] > 0


def _components(mask: Bool[Tensor, "h w"]) -> Int[Tensor, "h w"]:
    """A label above 0 for each 8-connected component, 0 elsewhere."""
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
