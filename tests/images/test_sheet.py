"""Contact sheets: images are unchanged, and labels stay inside their column."""

import numpy as np
import pytest

from images import make
from sfumato.errors import BadInput
from sfumato.images import contact_sheet
from sfumato.images.sheet import shrunk


def find(sheet, image):
    """Corners (y, x) at which the image occurs in the sheet."""
    h, w = image.shape[:2]
    candidates = np.argwhere((sheet[: len(sheet) - h + 1, : sheet.shape[1] - w + 1] == image[0, 0]).all(axis=-1))
    return [(y, x) for y, x in candidates if np.array_equal(sheet[y : y + h, x : x + w], image)]


def test_images_are_unchanged_in_their_row_and_column():
    rows = [[make.noise(20, 30, seed=10 * r + c) for c in range(3)] for r in range(2)]
    sheet = contact_sheet(rows, [["source", "reconstruction", "edit"], ["a", "b", "c"]], title="Title")
    corners = [[find(sheet, image) for image in row] for row in rows]
    assert all(len(found) == 1 for row in corners for found in row)
    places = np.array(corners)[:, :, 0]
    assert (places[:, :, 0] == places[:, :1, 0]).all()
    assert (places[:, :, 1] == places[:1, :, 1]).all()
    assert (np.diff(places[0, :, 1]) > 30).all()
    assert sheet.dtype == np.uint8


def test_enlarging_repeats_pixels():
    image = make.noise(4, 5)
    assert find(contact_sheet([[image]], scale=6), np.kron(image, np.ones((6, 6, 1), np.uint8)))


def test_large_images_are_reduced_to_the_longest_side():
    flat = np.full((300, 400, 3), (10, 20, 30), np.uint8)
    assert shrunk(flat, 100).shape == (75, 100, 3)
    assert (shrunk(flat, 100) == (10, 20, 30)).all()
    assert shrunk(flat[:2], 100).shape == (1, 100, 3)
    assert shrunk(flat, 400) is flat


def test_rows_and_images_of_different_sizes():
    rows = [[make.noise(20, 30, seed=1), make.noise(40, 10, seed=2)], [make.noise(7, 50, seed=3)]]
    sheet = contact_sheet(rows)
    assert all(find(sheet, image) for row in rows for image in row)


def test_labels_are_below_images_and_inside_their_column():
    black = np.zeros((30, 80, 3), dtype=np.uint8)
    long = "a label that is far too long for one line and has averyveryverylongwordthatfitsnowhere"
    sheet = contact_sheet([[black, black]], [[long, "x"]], font_size=12, gap=10)
    bare = contact_sheet([[black, black]], gap=10)
    assert sheet.shape[1] == bare.shape[1]
    assert sheet.shape[0] > bare.shape[0] + 4 * 12
    beneath = sheet[10 + 30 :]
    ink = np.argwhere((beneath < 128).all(axis=-1))
    assert len(ink) > 200
    columns = ink[:, 1]
    assert (((columns >= 10) & (columns <= 90)) | ((columns >= 100) & (columns <= 180))).all()
    assert (sheet[-3:] == 255).all()


def test_different_labels_give_different_pixels():
    image = make.noise()
    one, two = (contact_sheet([[image]], [[text]], scale=8) for text in ("PSNR 23.1 dB", "PSNR 32.1 dB"))
    assert one.shape == two.shape
    assert (one != two).any()
    np.testing.assert_array_equal(one, contact_sheet([[image]], [["PSNR 23.1 dB"]], scale=8))


def test_invalid_sheets_are_rejected():
    image = make.noise()
    for rows in ([], [[]], [[image], []]):
        with pytest.raises(BadInput, match="at least one image"):
            contact_sheet(rows)
    with pytest.raises(BadInput, match="one label for every"):
        contact_sheet([[image]], [["a", "b"]])
    with pytest.raises(BadInput, match="scale"):
        contact_sheet([[image]], scale=0)
    for bad in (image[..., 0], image.astype(float), image[:0]):
        with pytest.raises(BadInput, match="uint8"):
            contact_sheet([[bad]])
