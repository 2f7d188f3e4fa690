"""Peak memory of attention control compared with plain sampling of the same image, each case in its own process.

    python benchmarks/attention_memory.py --model emoji --size 256

One image is sampled with guidance, i.e. with a batch size of 2. Prompt-to-Prompt and Plug-and-Play first evaluate the
source with batch size 1 and store the attention maps or features that they inject. The last case corresponds to public
implementations: one batch of source and target, both with guidance, with the maps of every layer in memory. At 256
pixels the bundled model has latents of 64 x 64, like Stable Diffusion at 512 pixels. It has three levels; the
self-attention of the last one (16 x 16) is controlled.
"""

import argparse
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import torch

from benchmarks.memory import Peak, peak_memory
from sfumato.core.condition import Condition
from sfumato.core.guidance import classifier_free
from sfumato.editing.job import Job
from sfumato.editing.registry import METHODS
from sfumato.inversion import Inversion
from sfumato.methods.edit_friendly import EditFriendlyParams
from sfumato.methods.plug_and_play import PlugAndPlayParams
from sfumato.methods.prompt_to_prompt import PromptToPromptParams
from sfumato.models.attention import Layers, RecordMaps
from sfumato.models.diffusion_model import DiffusionModel
from sfumato.models.load import load_model

STEPS = 2
SOURCE, TARGET = "red cat face", "blue dog face"
Work = Callable[[DiffusionModel, Inversion], None]


def plain(model: DiffusionModel, inversion: Inversion) -> None:
    """An edit without attention control, which costs the same as sampling."""
    _edit(model, inversion, "edit-friendly", EditFriendlyParams(steps=STEPS, skip=0))


def cross_and_small_self(model: DiffusionModel, inversion: Inversion) -> None:
    """Prompt-to-Prompt: cross-attention of every layer, self-attention of at most 16 x 16 cells."""
    params = PromptToPromptParams(steps=STEPS, skip=0, cross_steps=1.0, self_steps=1.0, reweight="dog=2", blend="dog")
    _edit(model, inversion, "prompt-to-prompt", params)


def small_maps(model: DiffusionModel, inversion: Inversion) -> None:
    """Prompt-to-Prompt: self-attention of at most 16 x 16 cells only."""
    params = PromptToPromptParams(steps=STEPS, skip=0, cross_steps=0.0, self_steps=1.0)
    _edit(model, inversion, "prompt-to-prompt", params)


def features(model: DiffusionModel, inversion: Inversion) -> None:
    """Plug-and-Play: one residual feature, and the decoder's self-attention at every resolution."""
    params = PlugAndPlayParams(steps=STEPS, skip=0, feature_steps=1.0, attention_steps=1.0)
    _edit(model, inversion, "plug-and-play", params)


def everything(model: DiffusionModel, inversion: Inversion) -> None:
    """One batch of four rows with the maps of every layer."""
    condition = Condition.cat([model.condition(["", ""]), model.condition([SOURCE, TARGET])])
    for i, t in enumerate(inversion.timesteps):
        model.predict(inversion.x[i].repeat(4, 1, 1, 1), t, condition, taps=[RecordMaps(Layers())])


CASES: dict[str, Work] = {
    "plain sampling": plain,
    "self-attention up to 16x16": small_maps,
    "prompt-to-prompt": cross_and_small_self,
    "plug-and-play": features,
    "one batch, every map": everything,
}


def _edit(model: DiffusionModel, inversion: Inversion, method: str, params: object) -> None:
    guided = classifier_free(model, model.condition(""), (5.0,))
    target = model.condition(TARGET)
    job = Job(guided, inversion, model.condition(SOURCE), target, target)
    for _ in job.run(METHODS.find(method).shifts(job, params)):
        pass


def measure(case: str, name: str, size: int, device: str, threads: int) -> Peak:
    """Peak memory of one case over two steps on random latents."""
    torch.set_num_threads(threads)
    model = load_model(name, device)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(STEPS + 1, 1, *model.latent_shape(size, size), generator=generator)
    z = torch.randn(x[1:].shape, generator=generator)
    timesteps = tuple(model.schedule.timesteps(STEPS))
    inversion = Inversion("edit-friendly", x, z, timesteps, 1.0, (1.0,), prompts=(SOURCE,)).to(device)
    with torch.no_grad(), peak_memory(device) as peak:
        CASES[case](model, inversion)
    return peak


def main(words: Sequence[str] | None = None) -> None:
    """Measure every case and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default="emoji", help="bundled name or Stable Diffusion folder")
    parser.add_argument("--size", type=int, default=256, help="side of the image in pixels; default 256")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=1, help="torch's threads; default 1")
    given = parser.parse_args(words)
    first: tuple[float, float] | None = None
    print(f"{'':28}{'before':>8}{'peak':>8}   MiB    {'peak':>6}{'work':>6}   relative to plain sampling")
    for case in CASES:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            peak = pool.submit(measure, case, given.model, given.size, given.device, given.threads).result()
        if peak.peak is None or peak.before is None:
            raise SystemExit("Memory is measured on CUDA and on Linux only.")
        work = peak.peak - peak.before
        plain_peak, plain_work = first = first or (peak.peak, work)
        ratios = f"{peak.peak / plain_peak:6.2f}{work / plain_work:6.2f}"
        print(f"{case:28}{peak.before:8.0f}{peak.peak:8.0f}          {ratios}")


if __name__ == "__main__":
    main()
