"""Guidance by two modalities, style and content (PARASOL, arXiv 2303.06464, section 3.3):

    eps = eps_00 + g_s (eps_s0 - eps_00) + g_y (eps_0y - eps_00)

eps_s0 is the prediction under the style tokens only, eps_0y under the content tokens only, and eps_00 under the null
tokens. They are three rows per image of one evaluation. In the first lambda steps, the style is that of the content
image y.

The effect of a style can depend on the content, which eps_s0 does not contain. The alternative is the guidance of
InstructPix2Pix (arXiv 2211.09800, equation 3) with the prediction eps_sy under both:

    eps = eps_00 + g_s (eps_sy - eps_0y) + g_y (eps_0y - eps_00)
"""

from dataclasses import dataclass, field, replace

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

NULL, STYLE, CONTENT = "null", "style", "content"
"""Names of the guidance terms eps_00, eps_s0 and eps_0y. The term with the condition of the run, which is eps_0y or, if
the style term contains the content, eps_sy, has the name of that condition."""


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
        with_content: whether the style term is eps_sy - eps_0y instead of eps_s0 - eps_00.
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
    with_content: bool = False
    _own: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False)

    def for_run(self) -> "TwoModalities":
        """Return a copy without cached descriptors."""
        return replace(self)

    def replaces(self, i: int, steps: int) -> tuple[str, ...]:
        """The guidance, the tokens and their words, and as a consequence the maps of all cross-attention layers."""
        return ("the guidance", TOKENS, WORDS, *(name for name, _ in CROSS.of(self.model.unet)))

    def condition(self, state: StepState, condition: Condition) -> Condition:
        """Return the condition of eps_0y or, if the style term contains the content, of eps_sy; one row per image."""
        return self._run(condition, self._style(state), self._content(state))

    def guidance(self, state: StepState, guided: Guided) -> Guided:
        """Return the guidance by the three predictions."""
        return self._sum(guided, state.condition, self._style(state), self._content(state))

    def of_source(self, guided: Guided, condition: Condition, x0: Float[Tensor, "b c h w"]) -> tuple[Guided, Condition]:
        """Return guidance and condition with both descriptors of the images x_0, as in the first lambda steps."""
        style, content = (self._described(name, x0) for name in ("style", "content"))
        return self._sum(guided, condition, style, content), self._run(condition, style, content)

    def _style(self, state: StepState) -> Tensor:
        """a_s of a step."""
        return self._of("style", state) if self.style is None or state.i < self.own_steps else self.style

    def _content(self, state: StepState) -> Tensor:
        """c_y of a step."""
        own = self.content is None or (self.own_content and state.i < self.own_steps)
        return self._of("content", state) if own else self.content

    def _run(self, condition: Condition, style: Tensor, content: Tensor) -> Condition:
        """The condition of the run."""
        return self._conditioned(condition, style if self.with_content else None, content)

    def _sum(self, guided: Guided, condition: Condition, style: Tensor, content: Tensor) -> Guided:
        """The guidance under a style and a content."""
        rows = len(condition)
        run = next(term.name for term in guided.terms if term.condition is None)
        null = Term(NULL, self._conditioned(condition, None, None))
        style_scale, content_scale = (self.style_scale,) * rows, (self.content_scale,) * rows
        if not self.with_content:
            alone = Term(STYLE, self._conditioned(condition, style, None), style_scale)
            return Guided(guided.network, (null, alone, Term(run, None, content_scale)))
        rest = (self.content_scale - self.style_scale,) * rows
        return Guided(
            guided.network,
            (null, Term(CONTENT, self._conditioned(condition, None, content), rest), Term(run, None, style_scale)),
        )

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
