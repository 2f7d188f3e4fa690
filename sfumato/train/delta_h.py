"""Training of a delta-h for one attribute, from images of one kind and two texts that describe the change.

Kwon, Jeong, Uh: "Diffusion Models already have a Semantic Latent Space", ICLR 2023, arXiv 2210.10960. The images are
inverted once (`sfumato.train.asymmetric`); the loss is in `sfumato.train.asymmetric_loss`.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from sfumato.core.guidance import Guided, Term
from sfumato.core.loop import reverse
from sfumato.core.rows import TARGET
from sfumato.core.shift import Shift
from sfumato.errors import BadInput
from sfumato.metrics.direction import differ
from sfumato.metrics.evaluator import SHIPPED
from sfumato.metrics.frozen import local_folder
from sfumato.metrics.perceptual import load_perceptual
from sfumato.metrics.text import DualEncoder
from sfumato.models.load import load_model
from sfumato.shifts.asyrp import Asyrp
from sfumato.shifts.boost import QualityBoost
from sfumato.shifts.delta_h import DeltaH
from sfumato.shifts.delta_networks import KINDS, MOST_FACTOR, build, shape_of
from sfumato.train.asymmetric import interval, prepared
from sfumato.train.asymmetric_loss import MEASURED, AsymmetricTraining, DeltaHLoss, Frozen
from sfumato.train.binding import bound_before, refuse_changes, settings_of, weights_fingerprint
from sfumato.train.dataset import open_images, save_grid
from sfumato.train.ranges import ranged
from sfumato.train.recipe import Recipe, fill
from sfumato.train.registry import task
from sfumato.train.task import Batch, Phase

_LOG = logging.getLogger(__name__)
FILE = "delta_h.safetensors"
"""Name of the exported file."""
_SHOWN = 4
"""Number of images in a sample."""


@dataclass(frozen=True)
class DeltaHNetwork:
    """The networks and the sampling run that is edited: table [network].

    Attributes:
        model: the diffusion model: bundled name, folder, single file or hub id.
        kind: "block" for a small network f(h, t), "steps" for one tensor per timestep.
        clip: dual encoder of the directional loss, a folder or hub id; "" for the bundled one, trained on emoji only.
        perceptual: network of LPIPS, see `load_perceptual`; "" for the image encoder of `clip`.
        steps: number of steps of the run.
        images: largest number of training images.
        factor: k, the factor of dh_t; 1 in the paper. Larger values suit networks whose middle block has little
            influence.
    """

    model: str
    kind: str = "block"
    clip: str = ""
    perceptual: str = ""
    steps: int = ranged(40, low=1, high=1000)
    images: int = ranged(100, low=1)
    factor: float = ranged(1.0, above=0, high=MOST_FACTOR)


@task("delta-h")
class DeltaHTask:
    """Train a delta-h on captioned images of one kind, such as faces, for a change that two texts describe.

    Args:
        recipe: settings of the run.
        folder: folder of the run, in which the inverted images are cached.
        device: device of all networks.

    Raises:
        BadInput: a setting is invalid, the data or a model cannot be used, or the checkpoints in `folder` were trained
            with other settings.
    """

    def __init__(self, recipe: Recipe, folder: Path, device: torch.device | str = "cpu") -> None:
        self.shape = fill(DeltaHNetwork, recipe.network, "network")
        self.loss = fill(DeltaHLoss, recipe.loss, "loss")
        self.loss.check()
        _check(recipe, self.shape)
        self.model = load_model(self.shape.model, str(device), "fp32")
        self.timesteps = self.model.schedule.timesteps(self.shape.steps)
        if (t := self.loss.t_edit) > self.timesteps[0]:
            raise BadInput(f"loss.t_edit must be at most {self.timesteps[0]}, the first timestep, not {t}.")
        latent = self.model.latent_shape(recipe.data.size, recipe.data.size)
        self.h = shape_of(self.model, (latent[1], latent[2]))
        folder_of_clip = local_folder(self.shape.clip or SHIPPED)
        clip = DualEncoder.load(folder_of_clip, device)
        perceptual = load_perceptual(self.shape.perceptual or str(folder_of_clip)).to(device)
        texts = [text_feature(clip, self.loss.templates, text) for text in (self.loss.source, self.loss.target)]
        if not differ(*(text[None] for text in texts)).all():
            raise BadInput("loss.source and loss.target must differ: equal texts define no direction.")
        self.bound_to = self._bound(clip)
        before = bound_before(folder)
        refuse_changes(folder, before, self.bound_to)
        data = open_images(recipe, "train", self.shape.images)
        self.image_count, self.weights = len(data), torch.as_tensor(data.sampling_weights())
        captions = data.captions if self.model.takes_text else [""] * len(data)
        conditions = self.model.condition(captions, size=(recipe.data.size,) * 2)
        pixels = torch.from_numpy(data.pixels(range(len(data)))).float() / 127.5 - 1
        found = prepared(self.model, clip, perceptual, pixels, captions, self.shape.steps, folder / "cache")
        cosine = float(F.cosine_similarity(*texts, dim=0))
        measured = interval(found, self.timesteps, cosine, learned=perceptual.learned)
        self.t_edit, self.t_boost = self._interval(measured, before)
        self.bound_to["loss.t_edit"] = str(self.t_edit)
        self.edited = tuple(t for t in self.timesteps if t >= self.t_edit)
        frozen = Frozen(self.model, clip, conditions, found.on(device), texts[1] - texts[0], self.timesteps)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            delta = build(self.shape.kind, self.edited, self.h, self.shape.factor)
        self.module = AsymmetricTraining(delta, frozen, self.loss, len(self.edited))
        self.phases = (Phase("delta_h", self.module),)

    def _bound(self, clip: DualEncoder) -> dict[str, str]:
        """Entries of `bound_to`, without t_edit."""
        weights = {
            "model": self.model.fingerprint(),
            "dual encoder": weights_fingerprint(clip.model.state_dict().items()),
        }
        texts = settings_of(self.loss, "loss", "source", "target", "templates")
        return weights | texts | settings_of(self.shape, "network", "kind", "steps", "factor")

    def _interval(self, measured: tuple[int, int], before: Mapping[str, str] | None) -> tuple[int, int]:
        """t_edit and t_boost: from the recipe, else (t_edit only) from the newest checkpoint, else as measured.

        A measured t_boost is limited to the t_edit that is used, so that boosting begins after the edit.
        """
        began = int((before or {}).get("loss.t_edit", measured[0]))
        t_edit = began if self.loss.t_edit == MEASURED else self.loss.t_edit
        t_boost = min(t_edit, measured[1]) if self.loss.t_boost == MEASURED else self.loss.t_boost
        _LOG.warning("t_edit = %d, t_boost = %d (measured: %d, %d).", t_edit, t_boost, *measured)
        return t_edit, t_boost

    def batch(self, generator: torch.Generator, size: int) -> Batch:
        """Draw the indices of `size` images, different ones if there are enough."""
        again = size > int((self.weights > 0).sum())
        return {"rows": torch.multinomial(self.weights, size, replacement=again, generator=generator)}

    def delta_h(self) -> DeltaH:
        """The delta-h with the current weights."""
        return DeltaH(
            network=self.module.delta, attribute=self.loss.attribute or self.loss.target, source=self.loss.source,
            target=self.loss.target, model=self.model.fingerprint(), shape=self.h, timesteps=self.edited,
            steps=self.shape.steps, t_edit=self.t_edit, t_boost=self.t_boost,
        )  # fmt: skip

    @torch.no_grad()
    def sample(self, folder: Path, step: int) -> None:
        """Save a grid: results of the unedited process, edits, and edits with the opposite sign."""
        rows = torch.arange(min(_SHOWN, self.image_count))
        grid = [self._edited(rows, weight) for weight in (0.0, 1.0, -1.0)]
        save_grid(folder / f"step-{step:08d}.png", grid, f"step {step}: unedited, edited, opposite")

    def _edited(self, rows: Tensor, weight: float) -> Float[Tensor, "b 3 h w"]:
        frozen = self.module.frozen
        shifts: list[Shift] = [Asyrp([self.delta_h()], [weight]), QualityBoost(self.t_boost, rows.tolist())]
        *_, last = reverse(
            Guided(self.model, (Term(TARGET, None),)), frozen.found.x_T[rows], self.timesteps, frozen.conditions[rows],
            eta=0.0, noise_maps=lambda state: None, shifts=shifts,
        )  # fmt: skip
        return self.model.decode(last.x_prev).cpu()

    def export(self, folder: Path) -> None:
        """Write the file that the method asyrp takes as `delta`."""
        folder.mkdir(parents=True, exist_ok=True)
        self.delta_h().save(folder / FILE)


def text_feature(clip: DualEncoder, templates: tuple[str, ...], text: str) -> Float[Tensor, " d"]:
    """Unit mean feature of a text in the templates. Raises BadInput for a text that is too long."""
    return F.normalize(clip.text_features([each.replace("{}", text) for each in templates]).mean(dim=0), dim=0)


def _check(recipe: Recipe, shape: DeltaHNetwork) -> None:
    """Raise BadInput for settings that this task does not support."""
    if shape.kind not in KINDS:
        raise BadInput(f"network.kind must be {' or '.join(KINDS)}, not '{shape.kind}'.")
    if recipe.data.scenes or recipe.data.crop:
        raise BadInput("a delta-h is trained on single complete images: leave data.scenes and data.crop out.")
    if recipe.run.precision == "fp16":
        raise BadInput("run.precision = 'fp16' would lose the gradients of delta-h: use 'bf16' or 'fp32'.")
