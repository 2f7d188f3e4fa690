"""From prompts to the tokens that cross-attention reads, as diffusers' pipelines do it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sfumato.errors import BadInput


@dataclass(frozen=True, eq=False)
class TextTower:
    """A tokenizer and the CLIP text encoder that it belongs to."""

    tokenizer: Any
    encoder: Any

    @property
    def context(self) -> int:
        """The number of tokens of every prompt, start and end included."""
        return min(int(self.tokenizer.model_max_length), int(self.encoder.config.max_position_embeddings))

    def tokenize(self, prompts: Sequence[str]) -> tuple[Int[Tensor, "b n"], Int[Tensor, "b n"]]:
        """Token ids and attention mask, padded to the context.

        Raises:
            BadInput: a prompt has more tokens than the context; nothing is cut off silently.
        """
        for prompt in prompts:
            length = len(self.tokenizer(prompt, verbose=False).input_ids)
            if length > self.context:
                raise BadInput(
                    f"The prompt has {length - 2} tokens but this model reads at most {self.context - 2}; "
                    f'shorten "{prompt[:40]}...".'
                )
        batch = self.tokenizer(list(prompts), padding="max_length", max_length=self.context, return_tensors="pt")
        device = self.encoder.device
        return batch.input_ids.to(device), batch.attention_mask.to(device)


def encode_single(tower: TextTower, prompts: Sequence[str]) -> Float[Tensor, "b n d"]:
    """The last hidden state, normalised: Stable Diffusion 1.x and 2.x."""
    ids, mask = tower.tokenize(prompts)
    masked = getattr(tower.encoder.config, "use_attention_mask", False)
    return tower.encoder(ids, attention_mask=mask if masked else None)[0]


def encode_towers(
    towers: Sequence[TextTower], prompts: Sequence[str]
) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "b p"]]:
    """The last but one hidden states of all towers side by side, and the last tower's projection: SDXL."""
    encoded = [tower.encoder(tower.tokenize(prompts)[0], output_hidden_states=True) for tower in towers]
    tokens = torch.cat([each.hidden_states[-2] for each in encoded], dim=-1)
    return tokens, encoded[-1].text_embeds
