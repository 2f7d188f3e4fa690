"""Inversion: computes the initial latent and the noise maps from which the reverse process reproduces a real image."""

from sfumato.inversion.artifact import Inversion
from sfumato.inversion.ddim import invert_ddim
from sfumato.inversion.edit_friendly import invert_edit_friendly
from sfumato.inversion.native_ddpm import invert_native
from sfumato.inversion.replay import replay, with_source
from sfumato.inversion.sdedit import invert_sdedit

__all__ = [
    "Inversion",
    "invert_ddim",
    "invert_edit_friendly",
    "invert_native",
    "invert_sdedit",
    "replay",
    "with_source",
]
