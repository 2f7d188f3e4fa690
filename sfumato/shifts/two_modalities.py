"""Guidance by two modalities, style and content (PARASOL, arXiv 2303.06464, section 3.3):

    eps = eps_00 + g_s (eps_s0 - eps_00) + g_y (eps_0y - eps_00)

eps_s0 is the prediction under the style tokens only, eps_0y under the content tokens only, and eps_00 under the null
tokens. They are three rows per image of one evaluation. In the first lambda steps, the style is that of the content
image y.
"""

from dataclasses import dataclass, field, replace
from typing import Any

from jaxtyping import Float
from torch import Tensor

from sfumato.core.condition import Condition
from sfumato.core.guidance import Guided, Term
from sfumato.core.shift import WORDS, Shift
from sfumato.core.state import StepState
from sfumato.images.tensors import centre_square
from sfumato.models.diffusion_model import DiffusionModel
from sfumato.shifts.attention_guidance import CROSS
from sfumato.shifts.text_direction import TOKENS
from sfumato.style.describers import Describers
from sfumato.style.tokens import ModalityTokens

NULL, STYLE = "null", "style"
"""Names of the guidance terms eps_00 and eps_s0; the term eps_0y has the name of the run's condition."""


@dataclass(frozen=True, eq=False)
class TwoModalities(Shift):
    """Replace the condition and the guidance of a run by those of PARASOL.

    The descriptors of y are computed in the first step that needs them, from the centre square of the decoded latent of
    the source.

    Attributes:
        tokens: trained networks that map descriptors to tokens.
        model: the model, for decoding the source.
        describers: the encoders A and C of style and content.
        style: a_s, one row for all images, [1,d]; None for the style of y.
        content: c_y, one row for all images; None for the content of the source image.
        style_scale: g_s.
        content_scale: g_y.
        own_steps: lambda, number of first steps conditioned on the style of y.
        own_content: whether these steps are also conditioned on the content of y, even if another content is given.
    """

    tokens: ModalityTokens
    model: DiffusionModel
    describers: Describers
    style: Float[Tensor, "1 d"] | None
    content: Float[Tensor, "1 d"] | None
    style_scale: float
    content_scale: float
    own_steps: int
    own_content: bool = False
    _own: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False)

    def for_run(self) -> "TwoModalities":
        """Return a copy without cached descriptors."""
        return replace(self)

    def replaces(self, i: int, steps: int) -> tuple[str, ...]:
        """The guidance, the tokens and their words, and as a consequence the maps of all cross-attention layers."""
        return ("the guidance", TOKENS, WORDS, *(name for name, _ in CROSS.of(self.model.unet)))

    def condition(self, state: StepState, condition: Any) -> Condition:
        """Return the tokens [0; c_y], the condition of eps_0y, one row per image."""
        own = self.content is None or (self.own_content and state.i < self.own_steps)
        return self._conditioned(condition, None, self._of("content", state) if own else self.content)

    def guidance(self, state: StepState, guided: Guided) -> Guided:
        """Return the guidance by the three predictions."""
        own = self.style is None or state.i < self.own_steps
        return self._sum(guided, state.condition, self._of("style", state) if own else self.style)

    def of_source(self, guided: Guided, condition: Condition, x0: Float[Tensor, "b c h w"]) -> tuple[Guided, Condition]:
        """Return guidance and condition with both descriptors of the images x_0, as in the first lambda steps."""
        style, content = (self._described(name, x0) for name in ("style", "content"))
        return self._sum(guided, condition, style), self._conditioned(condition, None, content)

    def _sum(self, guided: Guided, condition: Condition, style: Tensor | None) -> Guided:
        """The guidance under a style; the condition of the run is that of eps_0y."""
        rows = len(condition)
        terms = (
            Term(NULL, self._conditioned(condition, None, None)),
            Term(STYLE, self._conditioned(condition, style, None), (self.style_scale,) * rows),
            Term(next(t.name for t in guided.terms if t.condition is None), None, (self.content_scale,) * rows),
        )
        return Guided(guided.network, terms)

    def _conditioned(self, condition: Condition, style: Tensor | None, content: Tensor | None) -> Condition:
        """A condition with other tokens and the changes of the keys and values; everything else is kept."""
        tokens = self.tokens.of(style, content, len(condition)).to(self.model.device)
        changes = self.tokens.changes.by_name
        return replace(
            condition, tokens=tokens, token_mask=None, weight_changes=changes, prompts=(), rows=len(condition)
        )

    def _of(self, modality: str, state: StepState) -> Float[Tensor, "b d"]:
        """Descriptors of the source images, computed once per run."""
        if modality not in self._own:
            self._own[modality] = self._described(modality, state.source[-1])
        return self._own[modality]

    def _described(self, modality: str, x0: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        """Descriptors of the decoded images x_0."""
        pixels = (self.model.decode(x0).clamp(-1, 1) + 1) / 2
        return self.describers.of(modality).image_features(centre_square(pixels))
