"""Editing and generating images in Python.

    import sfumato

    model = sfumato.load("emoji")                        # or a Stable Diffusion folder, a hub id, a .safetensors file
    inverted = model.invert("photo.png", "red apple, twemoji")
    edit = inverted.edit("green apple, twemoji")         # any number of edits of one inversion
    edit.images[0].show()
    edit.save("out.png")                                 # with the alpha channel and colour profile of photo.png
    print(edit.report["seconds"], edit.report["metrics"])

All methods accept one image or a list of images of any sizes, one prompt or one per image, and one seed or one per
image. A single image with several seeds or several target prompts gives several results. `invert`, `edit`,
`reconstruct`, `generate` and `interpolate` are also available as iterators (`invert_steps` etc.), which yield after
every step and provide the result at the end:

    run = inverted.edit_steps("green apple, twemoji", guidance_scale=9)
    for progress in run:
        print(progress.done, "of", progress.total)       # progress.preview() decodes the predicted x_0
    run.result.save("out.png")

`inverted.save(path)` writes an inversion to a file, and `model.open(path)` reads it. The options of the methods and
their ranges are defined in `sfumato.methods`; unknown options and values out of range raise `BadInput` before any
evaluation of the network.
"""

from typing import TYPE_CHECKING

from sfumato.lazy import lazily

if TYPE_CHECKING:
    from sfumato.api.inverted import Inverted
    from sfumato.api.loading import load
    from sfumato.api.model import Model
    from sfumato.api.result import Result
    from sfumato.api.run import Progress, Run

__all__ = ["Inverted", "Model", "Progress", "Result", "Run", "load"]
__getattr__ = lazily(
    __name__,
    {
        "Inverted": "sfumato.api.inverted",
        "Model": "sfumato.api.model",
        "Progress": "sfumato.api.run",
        "Result": "sfumato.api.result",
        "Run": "sfumato.api.run",
        "load": "sfumato.api.loading",
    },
)
