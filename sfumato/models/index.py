"""The index of a diffusers pipeline folder: the classes of its parts. Imports no large library."""

from dataclasses import dataclass
from pathlib import Path

from sfumato.errors import BadInput
from sfumato.files import printable
from sfumato.networks.places import GIVE
from sfumato.networks.tables import read_table

SUPPORTED = (
    "Stable Diffusion 1.x, 2.x and XL, their inpainting and InstructPix2Pix variants, and pixel-space or latent "
    "UNet2DModel and UNet2DConditionModel pipelines"
)
AUTOENCODERS, TEXT_ENCODERS = ("vae", "vqvae"), ("text_encoder", "text_encoder_2")
"""Names of parts."""
#: The supported classes of every network.
NETWORKS: dict[str, tuple[str, ...]] = {
    "unet": ("UNet2DConditionModel", "UNet2DModel"),
    **dict.fromkeys(AUTOENCODERS, ("AutoencoderKL", "VQModel", "AutoencoderTiny")),
    **dict.fromkeys(TEXT_ENCODERS, ("CLIPTextModel", "CLIPTextModelWithProjection")),
}
TOKENIZERS = ("CLIPTokenizer", "CLIPTokenizerFast")
#: Scheduler classes that may occur in a folder; those of the last two lines are refused with the reason.
SCHEDULERS = frozenset(
    f"{name}Scheduler"
    for name in (
        "DDIM", "DDIMInverse", "DDIMParallel", "DDPM", "DDPMParallel", "DEISMultistep", "DPMSolverMultistep",
        "DPMSolverMultistepInverse", "DPMSolverSDE", "DPMSolverSinglestep", "EulerAncestralDiscrete", "EulerDiscrete",
        "HeunDiscrete", "KDPM2AncestralDiscrete", "KDPM2Discrete", "LCM", "LMSDiscrete", "PNDM", "RePaint", "SASolver",
        "TCD", "UnCLIP", "UniPCMultistep",
        "CMStochasticIterative", "CosineDPMSolverMultistep", "EDMDPMSolverMultistep", "EDMEuler",
        "FlowMatchEulerDiscrete", "FlowMatchHeunDiscrete", "IPNDM", "KarrasVe", "ScoreSdeVe", "ScoreSdeVp",
    )
)  # fmt: skip
# Parts that do not change the predicted noise; low_res_scheduler only adds noise to the maps.
WITHOUT_EFFECT = ("safety_checker", "feature_extractor", "image_encoder", "low_res_scheduler", "watermarker")
#: Pipelines that ignore the scaling_factor in the autoencoder's config.json.
UNSCALED = ("LDMSuperResolutionPipeline",)
PARTS = (*NETWORKS, "tokenizer", "tokenizer_2", "scheduler")
# Longest part of a name that a message shows; names in a file may have any length.
_SHOWN = 100


@dataclass(frozen=True)
class Index:
    """Content of `model_index.json`.

    Attributes:
        kinds: class name of every part, by the name of the part.
        empty_prompt_is_zero: SDXL's `force_zeros_for_empty_prompt`.
        unscaled: whether the pipeline ignores the autoencoder's scaling_factor.
    """

    kinds: dict[str, str]
    empty_prompt_is_zero: bool
    unscaled: bool = False

    @property
    def takes_text(self) -> bool:
        """Whether the model has a text encoder."""
        return any(part in self.kinds for part in TEXT_ENCODERS)


def read_index(folder: Path) -> Index:
    """Read `model_index.json`, without empty entries and parts without effect.

    Raises:
        BadInput: the folder is not a pipeline folder, or the pipeline is not supported.
    """
    path = folder / "model_index.json"
    if not path.is_file():
        raise BadInput(
            f"{folder} has no model_index.json, so it is not a diffusers pipeline folder; give the folder that "
            "save_pretrained wrote, or a single .safetensors file."
        )
    table = read_table(path, folder)
    entries = {part: each for part, each in table.items() if isinstance(each, list) and part[:1] != "_"}
    entries |= {part: table[part] for part in PARTS if table.get(part) is not None}
    wrong = [part for part, each in entries.items() if not isinstance(each, list) or len(each) != 2]
    if wrong:
        raise BadInput(
            f"{printable(path)} cannot be read: {wrong[0][:_SHOWN]!r} must be a library and a class; {GIVE}."
        )
    kinds = {part[:_SHOWN]: str(value[1])[:_SHOWN] for part, value in entries.items() if value[1] is not None}
    unknown = [f"{part} ({kind})" for part, kind in kinds.items() if part not in (*PARTS, *WITHOUT_EFFECT)]
    if unknown or "unet" not in kinds or "scheduler" not in kinds:
        reason = f"it has {unknown[0]}" if unknown else "it has no U-Net or no scheduler"
        raise BadInput(
            f"{folder} is a {str(table.get('_class_name', 'pipeline'))[:_SHOWN]}, which cannot be used: {reason}; "
            f"sfumato works with {SUPPORTED}."
        )
    kinds = {part: kinds[part] for part in PARTS if part in kinds}
    for part, kind in kinds.items():
        _check_kind(folder, part, kind)
    zero = bool(table.get("force_zeros_for_empty_prompt", "text_encoder_2" in kinds))
    return Index(kinds, zero, unscaled=table.get("_class_name") in UNSCALED)


def _check_kind(folder: Path, part: str, kind: str) -> None:
    """Raise BadInput for a class that is not supported, before anything is loaded."""
    if part == "scheduler":
        if kind not in SCHEDULERS:
            raise BadInput(f"diffusers has no scheduler {kind}; put a DDIMScheduler in {folder / part}.")
    elif kind not in NETWORKS.get(part, TOKENIZERS):
        raise BadInput(
            f"The part {part} of {folder} is a {kind}, which cannot be used; sfumato works with {SUPPORTED}."
        )


def part_folder(folder: Path, part: str) -> Path:
    """Return the folder of a part of a pipeline folder. Raises BadInput if it does not exist."""
    place = folder / part
    if not place.is_dir():
        raise BadInput(f"{folder} lacks its part {part}; {GIVE}.")
    return place
