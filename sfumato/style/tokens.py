"""The tokens that condition the network in PARASOL (arXiv 2303.06464, sections 3.2 and 3.3), and their file.

    m_s = M(a_s)                     the projector M, an MLP from the space of A to the context of the U-Net
    tokens = [m_s; c_y]              stacked for cross-attention

Here the space of C differs from that of the U-Net's context, so a second MLP maps c_y to it; in the paper both spaces
are the same. The inputs of both are scaled to sqrt(d) a_s and sqrt(d) c_y, of mean square 1. A dropped modality is
replaced by learnt null tokens. Each modality may have several tokens, as in IP-Adapter (arXiv 2308.06721); in the paper
it has one. The paper trains the U-Net with the tokens; here the changes of its key and value projections can be trained
(`sfumato.style.key_value`).

The tokens can also start from text embeddings, which the U-Net was trained with (`sfumato.train.parasol_text`):

    c_y = sum_i p_i e_i,  p = softmax(K c)      e_i: text embedding of a caption i without style, all positions
    tokens_j = m_s,j + c_y,j                    added for every position j of a prompt, instead of stacked

The rows of K are the features of the captions in the space of C, so that p_i is high for captions of what the image
shows. K and e_i are trained like the other weights.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from sfumato.errors import BadInput
from sfumato.formats import PARASOL, Format
from sfumato.models.diffusion_model import DiffusionModel
from sfumato.style.describers import Describers
from sfumato.style.key_value import KeyValueChanges

_MOST = 1 << 14
"""Largest width of a layer that is read from a file."""
_MOST_LAYERS = 1000
SIZES = ("style", "content", "hidden", "width", "style_tokens", "content_tokens")


class ModalityTokens(nn.Module):
    """Computes the tokens [m_s; c_y] from descriptors.

    Args:
        style: dimension of the style descriptor.
        content: dimension of the content descriptor.
        hidden: width of the hidden layers of both MLPs; 0 for linear maps, the paper's ablation of the projector M.
        width: width of the tokens, equal to the cross-attention dimension of the U-Net.
        style_tokens: number of tokens of the style.
        content_tokens: number of tokens of the content.
        layers: cross-attention layers whose key and value projections are changed, with their widths; see
            `KeyValueChanges`. Empty for an unchanged U-Net.
        captions: number of captions i, if the tokens of both modalities are added; 0 if they are stacked.

    Raises:
        ValueError: the tokens are added, but their numbers differ.
    """

    def __init__(
        self,
        style: int,
        content: int,
        hidden: int,
        width: int,
        style_tokens: int = 1,
        content_tokens: int = 1,
        layers: Mapping[str, int] | None = None,
        captions: int = 0,
    ) -> None:
        super().__init__()
        if captions and style_tokens != content_tokens:
            raise ValueError(f"{style_tokens} tokens of the style cannot be added to {content_tokens} of the content")
        self.captions = captions
        self.sizes = dict(zip(SIZES, (style, content, hidden, width, style_tokens, content_tokens), strict=True))
        self.style = _mlp(style, hidden, style_tokens * width)
        tokens = content_tokens * width
        self.content = _of_captions(content, captions, tokens) if captions else _mlp(content, hidden, tokens)
        self.null_style = nn.Parameter(torch.zeros(style_tokens, width))
        self.null_content = nn.Parameter(torch.zeros(content_tokens, width))
        self.changes = KeyValueChanges(layers or {}, width)

    def forward(
        self,
        style: Float[Tensor, "b a"],
        content: Float[Tensor, "b c"],
        keep_style: Bool[Tensor, " b"],
        keep_content: Bool[Tensor, " b"],
    ) -> Float[Tensor, "b tokens width"]:
        """Tokens; rows where `keep_style` (`keep_content`) is False have the null tokens of that modality."""
        m = self.of_style(style)
        c = self.content(_scaled(content)).unflatten(1, self.null_content.shape)
        m = torch.where(keep_style[:, None, None], m, self.null_style)
        c = torch.where(keep_content[:, None, None], c, self.null_content)
        return m + c if self.captions else torch.cat([m, c], dim=1)

    def of_style(self, style: Float[Tensor, "b a"]) -> Float[Tensor, "b n width"]:
        """The tokens m_s."""
        return self.style(_scaled(style)).unflatten(1, self.null_style.shape)

    def of(self, style: Float[Tensor, "b a"] | None, content: Float[Tensor, "b c"] | None, rows: int) -> Tensor:
        """Tokens [rows,n,width] with a modality given or dropped for all rows; None selects its null tokens."""
        like = self.null_style
        a = like.new_zeros(rows, self.sizes["style"]) if style is None else style.to(like).expand(rows, -1)
        c = like.new_zeros(rows, self.sizes["content"]) if content is None else content.to(like).expand(rows, -1)
        keep = torch.ones(rows, dtype=torch.bool, device=like.device)
        return self(a, c, keep & (style is not None), keep & (content is not None))


def _mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """The projector M: an MLP with two hidden layers; a linear map if their width is 0."""
    if not hidden:
        return nn.Sequential(nn.Linear(inputs, outputs))
    layers = (nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, outputs))
    return nn.Sequential(*layers)


def _of_captions(inputs: int, captions: int, outputs: int) -> nn.Sequential:
    """sum_i softmax(K c)_i e_i; the weights of the two layers are K and the embeddings e_i."""
    return nn.Sequential(
        nn.Linear(inputs, captions, bias=False), nn.Softmax(dim=-1), nn.Linear(captions, outputs, bias=False)
    )


def _scaled(descriptor: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
    """A unit descriptor scaled to a mean square of 1, as the initial weights of linear layers assume."""
    return descriptor * descriptor.shape[-1] ** 0.5


@dataclass(frozen=True, eq=False)
class Parasol:
    """Trained `ModalityTokens` with the fingerprints of the networks that they were trained for.

    Attributes:
        tokens: the network that computes the tokens.
        model: fingerprint of the diffusion model.
        content_encoder: fingerprint of C.
        style_encoder: fingerprint of A.
    """

    FORMAT: ClassVar[Format] = PARASOL

    tokens: ModalityTokens
    model: str
    content_encoder: str
    style_encoder: str

    def check_model(self, network: DiffusionModel) -> None:
        """Raise BadInput if the tokens were trained for another diffusion model, or do not fit it."""
        if self.model != network.fingerprint():
            raise BadInput(
                f"The PARASOL file was trained for another model or precision (weights {self.model[:12]}, not "
                f"{network.fingerprint()[:12]}): load that model, or train it again."
            )
        layers = self.tokens.changes.layers
        if self.tokens.sizes["width"] != network.token_width or layers not in (
            {},
            KeyValueChanges.layers_of(network.unet),
        ):
            raise BadInput("The PARASOL file is damaged, as its layers are not those of the model: train it again.")

    def check_describers(self, describers: Describers) -> None:
        """Raise BadInput if the tokens were trained with other encoders; the message names the option to use."""
        for name, own in (("content", self.content_encoder), ("style", self.style_encoder)):
            if own != (given := describers.of(name).fingerprint):
                raise BadInput(
                    f"The PARASOL file was trained with another {name} encoder (weights {own[:12]}, not {given[:12]}): "
                    f"give that one as {name}_encoder."
                )
            if self.tokens.sizes[name] != describers.of(name).dimension:
                raise BadInput(
                    f"The PARASOL file is damaged, as its {name} descriptors have another size: train it again."
                )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one safetensors file in half precision, atomically. Raises BadInput if it cannot be written."""
        header: dict[str, Any] = {name: getattr(self, name) for name in ("model", "content_encoder", "style_encoder")}
        header |= self.tokens.sizes | {"layers": self.tokens.changes.layers, "captions": self.tokens.captions}
        self.FORMAT.write(path, header, {name: each.half() for name, each in self.tokens.state_dict().items()})

    @staticmethod
    def load(path: str | os.PathLike[str]) -> "Parasol":
        """Read a file that `save` wrote. Raises BadInput if it is missing, of another kind, or damaged."""
        return Parasol.FORMAT.read(path, _assemble)


def _assemble(header: Any, tensors: dict[str, Tensor]) -> Parasol:
    """Build it from the content of a file. Raises KeyError, TypeError or ValueError if it is invalid."""
    sizes, layers = {name: header[name] for name in SIZES}, dict(header["layers"])
    captions = header["captions"]
    texts = [header[name] for name in ("model", "content_encoder", "style_encoder")]
    if len(layers) > _MOST_LAYERS or not all(isinstance(name, str) for name in layers):
        raise ValueError("layers that are not names")
    numbers = (*(sizes | {"hidden": sizes["hidden"] + 1}).values(), *layers.values(), captions + 1)
    if not all(type(each) is int and 0 < each <= _MOST for each in numbers):
        raise ValueError("sizes out of range")
    if not all(isinstance(text, str) and text.isalnum() for text in texts):
        raise ValueError("fingerprints that are not text")
    with torch.device("meta"):  # the shapes are compared before any memory is allocated for them
        network = ModalityTokens(**sizes, layers=layers, captions=captions)
    shapes = {name: value.shape for name, value in network.state_dict().items()}
    if shapes != {name: value.shape for name, value in tensors.items()}:
        raise ValueError("tensors of other shapes")
    if not all(value.dtype == torch.float16 and bool(value.isfinite().all()) for value in tensors.values()):
        raise ValueError("weights that are not finite")
    network.load_state_dict({name: value.float() for name, value in tensors.items()}, assign=True)
    return Parasol(network.eval().requires_grad_(False), *texts)
