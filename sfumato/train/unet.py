"""The U-Net of a diffusion model: its architecture in a recipe, and its initial weights."""

from dataclasses import dataclass, field

from diffusers import UNet2DConditionModel

from sfumato.errors import BadInput
from sfumato.metrics.frozen import load_frozen
from sfumato.train.conditioning import TextEncoderRecipe
from sfumato.train.dataset import exported_folder
from sfumato.train.frozen import refuse_other_config
from sfumato.train.ranges import ranged


@dataclass(frozen=True)
class DiffusionNetwork:
    """Architecture of the U-Net and the pretrained networks it is trained with: table [network].

    Attributes:
        autoencoder: folder exported by `sfumato train autoencoder`.
        text: the text encoder whose last hidden states are the condition.
        start: folder of a U-Net of the same architecture with the initial weights, such as the subfolder unet/ of a
            pipeline; "" for random weights.
        evaluator: folder exported by `sfumato train dual-encoder`. It is exported with the pipeline and scores its
            images, so its text encoder must not condition the U-Net. "" for none.
        channels: width of each resolution level, from the resolution of the latents down.
        heads: number of attention heads of each level; each divides the width of its level.
        layers: residual blocks per level.
        groups: groups of the group normalisation.
    """

    autoencoder: str
    text: TextEncoderRecipe = field(default_factory=TextEncoderRecipe)
    start: str = ""
    evaluator: str = ""
    channels: tuple[int, ...] = ranged((64, 160, 256), low=1)
    heads: tuple[int, ...] = ranged((2, 5, 8), low=1)
    layers: int = ranged(1, low=1)
    groups: int = ranged(16, low=1)


def build_unet(shape: DiffusionNetwork, latent_channels: int, side: int, width: int) -> UNet2DConditionModel:
    """Build a U-Net with random weights and cross-attention at every resolution.

    Args:
        shape: its architecture.
        latent_channels: channels of the latents.
        side: side of the latents, a multiple of 2^(levels - 1).
        width: channels of the text encoder's hidden states.

    Raises:
        BadInput: the number of heads or a head count does not match the widths, a width is not a multiple of `groups`,
            or the latents cannot be halved once per level.
    """
    levels = len(shape.channels)
    if not levels or len(shape.heads) != levels or any(c % h for c, h in zip(shape.channels, shape.heads, strict=True)):
        raise BadInput(
            f"network.channels = {list(shape.channels)} needs at least one width, and network.heads = "
            f"{list(shape.heads)} one number of heads per width, which divides it."
        )
    if any(c % shape.groups for c in shape.channels):
        raise BadInput(
            f"network.channels must be multiples of network.groups = {shape.groups}, not {list(shape.channels)}."
        )
    if side % 2 ** (levels - 1):
        raise BadInput(
            f"latents of side {side} cannot be halved {levels - 1} times; use fewer levels in network.channels."
        )
    return UNet2DConditionModel(
        sample_size=side, in_channels=latent_channels, out_channels=latent_channels,
        block_out_channels=shape.channels, attention_head_dim=shape.heads, layers_per_block=shape.layers,
        down_block_types=("CrossAttnDownBlock2D",) * levels, up_block_types=("CrossAttnUpBlock2D",) * levels,
        cross_attention_dim=width, norm_num_groups=shape.groups,
    )  # fmt: skip


def take_weights(unet: UNet2DConditionModel, start: str) -> None:
    """Load the weights of the U-Net in the folder `start` into `unet`.

    Raises:
        BadInput: the folder cannot be read, or it is a U-Net of another architecture.
    """
    trained = load_frozen(UNet2DConditionModel, exported_folder(start))
    weights = trained.state_dict()
    shapes = {name: value.shape for name, value in weights.items()}
    for name in {**shapes, **unet.state_dict()}:
        own = unet.state_dict().get(name)
        if own is None or name not in shapes or own.shape != shapes[name]:
            raise BadInput(
                f"network.start = '{start}' is a U-Net of another architecture ({name} differs): give [network] and "
                "[network.text] the widths that it was trained with, or leave network.start out."
            )
    refuse_other_config(unet, trained, "network.start", start)
    unet.load_state_dict(weights)
