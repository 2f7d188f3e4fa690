"""Objects on a plain background: bounding boxes, single objects, and captions matched to objects."""

import pytest
import torch

from sfumato.metrics.objects import alone, foreground, found_boxes, object_boxes
from sfumato.metrics.text import DualEncoder

GREY, RED, BLUE = torch.tensor([0.5] * 3), torch.tensor([0.9, 0.1, 0.1]), torch.tensor([0.1, 0.1, 0.9])


def drawn(boxes, ground=GREY, size=64):
    image = ground[:, None, None].expand(3, size, size).clone()
    for (left, top, right, bottom), colour in boxes.items():
        image[:, top:bottom, left:right] = colour[:, None, None]
    return image


@pytest.mark.parametrize("ground", [GREY, torch.ones(3), torch.zeros(3)])
def test_boxes_equal_the_drawn_ones_largest_first(ground):
    boxes = {(40, 8, 60, 30): RED, (2, 20, 30, 60): BLUE}
    image = drawn(boxes, ground)
    assert object_boxes(image) == [(2, 20, 30, 60), (40, 8, 60, 30)]
    assert foreground(image).sum() == 20 * 22 + 28 * 40


def test_object_at_the_border_is_found():
    assert object_boxes(drawn({(0, 0, 20, 20): RED})) == [(0, 0, 20, 20)]


def test_near_parts_are_merged_and_specks_are_ignored():
    assert object_boxes(drawn({(10, 10, 20, 30): RED, (22, 10, 30, 30): BLUE, (60, 60, 62, 62): RED})) == [
        (10, 10, 30, 30)
    ]


def test_empty_image_has_no_object():
    assert object_boxes(drawn({})) == []
    assert found(drawn({}), ["red", "blue"], ["green"]) == [None, None]


def test_single_object_is_centred_on_white():
    image = drawn({(5, 5, 15, 25): RED, (40, 40, 60, 60): BLUE})
    shown = alone(image, (5, 5, 15, 25))
    assert object_boxes(shown) == [(18, 4, 46, 60)]
    torch.testing.assert_close(shown[:, 32, 32], RED)
    torch.testing.assert_close(shown[:, 0, 0], torch.ones(3))
    assert (shown[2] > shown[0] + 0.1).sum() == 0, "nothing of the blue one"


def found(image, captions, others):
    encoder = ByColour()
    return found_boxes(encoder, image, *(encoder.text_features(some) for some in (captions, others)))


class ByColour(DualEncoder):
    """Recognises "red", "blue" and "green" by the mean colour."""

    def __init__(self):
        """Without networks."""

    names = ("red", "green", "blue")

    def text_features(self, texts):
        return torch.stack([torch.eye(3)[self.names.index(text)] for text in texts])

    def image_features(self, pixels):
        colour = 1 - pixels.mean((2, 3))
        return torch.nn.functional.normalize(1 - colour / colour.amax(1, keepdim=True), dim=1)


def test_every_caption_gets_the_box_of_its_object():
    image = drawn({(5, 5, 25, 25): RED, (40, 40, 60, 60): BLUE})
    assert found(image, ["blue", "red"], ["green"]) == [(40, 40, 60, 60), (5, 5, 25, 25)]


def test_object_that_fits_another_caption_is_not_found():
    image = drawn({(5, 5, 25, 25): RED})
    assert found(image, ["blue"], ["red", "green"]) == [None]
    assert found(image, ["red", "blue"], ["green"]) == [(5, 5, 25, 25), None]


def test_near_objects_are_found_apart():
    image = drawn({(10, 10, 20, 30): RED, (22, 10, 30, 30): BLUE})
    assert len(object_boxes(image)) == 1
    assert found(image, ["red", "blue"], ["green"]) == [(10, 10, 20, 30), (22, 10, 30, 30)]


def test_images_of_the_objects_are_compared_as_captions_are():
    image = drawn({(5, 5, 25, 25): RED, (40, 40, 60, 60): BLUE})
    pictures = ByColour().image_features(torch.stack([drawn({(8, 8, 56, 56): c}, torch.ones(3)) for c in (RED, BLUE)]))
    assert found_boxes(ByColour(), image, pictures[1:], pictures[:1]) == [(40, 40, 60, 60)]


def test_boxes_of_a_composed_scene_are_found():
    from sfumato.data.scenes.scene import compose

    rng = torch.Generator().manual_seed(0)
    disc = torch.hypot(*torch.meshgrid(torch.linspace(-1, 1, 60), torch.linspace(-1, 1, 60), indexing="ij")) < 1
    cutout = torch.cat([torch.randint(0, 90, (60, 60, 3), generator=rng), disc[..., None] * 255], -1).byte().numpy()
    boxes = [(4, 8, 60, 64), (70, 60, 120, 110)]
    image, _ = compose([cutout, cutout], boxes, "yellow", 128)
    for found, expected in zip(object_boxes(torch.from_numpy(image).float() / 255), boxes, strict=True):
        assert max(abs(a - b) for a, b in zip(found, expected, strict=True)) <= 1
