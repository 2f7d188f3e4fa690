"""Warnings of libraries: those that a user cannot act on are hidden."""

import warnings

import pytest
from PIL import Image

from sfumato.cli.quiet import quiet_warnings
from sfumato.images import read_image
from tests.tiny import tiny_image

SHOWN = [
    (UserWarning, "torch.cuda"),
    (RuntimeWarning, "numpy"),
    (FutureWarning, "somebody.method"),
    (FutureWarning, "torchmetrics"),
    (Image.DecompressionBombWarning, "PIL.Image"),
]
HIDDEN = [
    (FutureWarning, "torch"),
    (FutureWarning, "diffusers.models.attention"),
    (FutureWarning, "huggingface_hub.file_download"),
    (UserWarning, "PIL.TiffImagePlugin"),
]


@pytest.mark.parametrize(("category", "module", "shown"), [(*c, True) for c in SHOWN] + [(*c, False) for c in HIDDEN])
def test_only_listed_library_warnings_are_hidden(category, module, shown):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        quiet_warnings()
        warnings.warn_explicit("something", category, f"{module}.py", 1, module=module)
    assert bool(caught) == shown


def test_damaged_exif_warning_is_hidden(sfumato, folder, tiny_sd_folder):
    tiny_image(30, 22).save(folder / "odd.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    with pytest.warns(UserWarning, match="Corrupt EXIF"):
        read_image(folder / "odd.jpg")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        words = ("--from", "red", "--to", "green", "-o", "out.png", "--steps", 2, "--model", tiny_sd_folder)
        assert sfumato("edit", "odd.jpg", *words).code == 0
    assert caught == []
