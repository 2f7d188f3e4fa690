"""Contract tests of methods for packages outside of this repository.

    from sfumato.testing import check_method

    def test_contrast(tmp_path):
        check_method("contrast", folder=tmp_path)

`check_method` edits small images with a tiny Stable Diffusion of random weights (`sfumato.testing.tiny`), which takes a
few seconds on a CPU.
"""

from sfumato.testing.contract import check_method
from sfumato.testing.tiny import tiny_image, tiny_sd

__all__ = ["check_method", "tiny_image", "tiny_sd"]
