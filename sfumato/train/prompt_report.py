"""Rank each prompt of a list among other captions, by an image generated from it.

    python -m sfumato.train.prompt_report emoji --recipe recipes/emoji-128-diffusion.toml \
        --prompts recipes/everyday-prompts.txt --out prompts.json --grid prompts.png

One image is generated from each prompt, with its index in the file as the seed. The evaluator compares the image with
its prompt and with 99 captions of training images of the recipe, the same ones for all prompts. A prompt is recognised
if every other caption has a lower similarity to the image. The image of the corpus with this caption is compared in the
same way: its rank is what the evaluator allows.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sfumato.errors import BadInput
from sfumato.files import write_text
from sfumato.metrics import DualEncoder
from sfumato.models.diffusion_model import DiffusionModel
from sfumato.text_files import read_text
from sfumato.train.dataset import open_images, save_grid
from sfumato.train.generated import generate, readable
from sfumato.train.recipe import Recipe
from sfumato.train.report_options import opened, report_parser

_OTHERS = 99
#: Number of training images whose captions the other captions are taken from.
_DRAWN = 1000
_ROW = 6


def prompt_report(
    model: DiffusionModel, evaluator: DualEncoder, recipe: Recipe, prompts: Sequence[str], guidance: float, steps: int
) -> tuple[dict[str, Any], Tensor]:
    """Generate an image from each prompt and rank the prompt among other captions.

    Args:
        model: the pipeline.
        evaluator: dual encoder that compares images and captions.
        recipe: recipe whose table [data] selects the training images with the other captions.
        prompts: the prompts.
        guidance: guidance scale of the generated images.
        steps: sampling steps of the generated images (DDIM, eta 0).

    Returns:
        (figures, images float [n,3,h,w] in [0,1]). The figures are `recognised`, the number of prompts of rank 1;
        `candidates`, the number of captions that are compared; and for each of the `prompts` its "rank" (1 is the
        best), the "best" caption, and the "real rank", that of the recipe's image with this caption, or None without
        one.
    """
    drawn = generate(model, prompts, recipe.data.size, guidance, steps)
    captions = open_images(recipe, "train", _DRAWN).captions
    others = [readable(evaluator, caption) for caption in dict.fromkeys(captions) if caption not in prompts][:_OTHERS]
    texts = evaluator.text_features(others)
    ranks, best = _ranks(evaluator, drawn, prompts, texts)
    real = _real_ranks(evaluator, recipe, prompts, texts)
    rows = [
        {"prompt": prompt, "rank": rank, "best": prompt if rank == 1 else others[k], "real rank": real.get(prompt)}
        for prompt, rank, k in zip(prompts, ranks, best, strict=True)
    ]
    figures = {"recognised": ranks.count(1), "candidates": 1 + len(others), "prompts": rows}
    return figures, drawn


def _ranks(
    evaluator: DualEncoder, images: Tensor, captions: Sequence[str], texts: Tensor
) -> tuple[list[int], list[int]]:
    """Rank of each image's caption among the others, whose features are `texts`, and the index of the best of these."""
    features = evaluator.image_features(images)
    own = (features * evaluator.text_features(captions)).sum(dim=1)
    rivals = features @ texts.T
    return (1 + (rivals >= own[:, None]).sum(dim=1)).tolist(), rivals.argmax(dim=1).tolist()


def _real_ranks(evaluator: DualEncoder, recipe: Recipe, prompts: Sequence[str], texts: Tensor) -> dict[str, int]:
    """Ranks of the recipe's images of all splits whose captions are among the prompts, by prompt."""
    data = open_images(recipe, None)
    rows = {caption: row for row, caption in enumerate(data.captions) if caption in prompts}
    if not rows:
        return {}
    images = torch.from_numpy(data.images[list(rows.values())]).float() / 255
    return dict(zip(rows, _ranks(evaluator, images, list(rows), texts)[0], strict=True))


def read_prompts(path: Path, evaluator: DualEncoder) -> list[str]:
    """Read the prompts of a text file, one per line; empty lines are skipped.

    Raises:
        BadInput: the file cannot be read, contains no prompt, or a prompt is too long for the evaluator.
    """
    prompts = [
        line.strip()
        for line in read_text(path, "give a text file with one prompt per line").splitlines()
        if line.strip()
    ]
    if not prompts:
        raise BadInput(f"{path} contains no prompt; write one per line.")
    for prompt in prompts:
        if readable(evaluator, prompt) != prompt:
            raise BadInput(f"the prompt '{prompt:.80}' is too long for the evaluator; shorten it.")
    return prompts


def main(argv: Sequence[str] | None = None) -> int:
    """Rank the prompts of a file, write the results as JSON and print one line per prompt."""
    parser = report_parser("Rank prompts among other captions.", "selects the images with the other captions")
    parser.add_argument("--prompts", type=Path, required=True, help="text file with one prompt per line")
    choice = parser.parse_args(argv)
    try:
        _, model, evaluator, recipe = opened(choice)
        prompts = read_prompts(choice.prompts, evaluator)
        figures, drawn = prompt_report(model, evaluator, recipe, prompts, choice.guidance_scale, choice.steps)
        write_text(choice.out, json.dumps(figures, indent=1) + "\n")
        if choice.grid:
            title = f"{choice.prompts.name}, {choice.steps} steps, guidance scale {choice.guidance_scale}"
            save_grid(choice.grid, [*(drawn * 2 - 1).split(_ROW)], title)
    except BadInput as error:
        parser.exit(2, f"{error}\n")
    for row in figures["prompts"]:
        print(f"{row['rank']:4d}  {row['prompt']}" + ("" if row["rank"] == 1 else f"  (best: {row['best']})"))
    real = [row["real rank"] for row in figures["prompts"] if row["real rank"] is not None]
    print(f"{figures['recognised']} of {len(prompts)} first among {figures['candidates']}", end="")
    print(f"; of {len(real)} real images {real.count(1)}" if real else "")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
