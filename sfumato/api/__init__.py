"""Editing and generating pictures in Python.

    import sfumato

    model = sfumato.load("emoji")                        # or a Stable Diffusion folder, a hub id, a .safetensors file
    inverted = model.invert("photo.png", "red apple, twemoji")
    edit = inverted.edit("green apple, twemoji")         # as often as you like: the inversion is kept
    edit.images[0].show()
    edit.save("out.png")                                 # gives alpha and colour profile of photo.png back
    print(edit.report["seconds"], edit.report["metrics"])

Everything takes one picture or a list of pictures of any sizes, one prompt or one per picture, one seed or one per
picture; a single picture with several seeds or several target prompts gives several results. Beside each call there
is an iterator that yields after every step and holds the result at the end:

    run = inverted.edit_steps("green apple, twemoji", guidance_scale=9)
    for progress in run:
        print(progress.done, "of", progress.total)       # progress.preview() shows where the edit is going
    run.result.save("out.png")

`inverted.save(path)` keeps an inversion, `model.open(path)` takes it up again. What the options mean and which values
they take is written in `sfumato.methods`; anything else raises `BadInput` before any work.
"""

from sfumato.api.inverted import Inverted
from sfumato.api.model import Model, load
from sfumato.api.result import Result
from sfumato.api.run import Progress, Run

__all__ = ["Inverted", "Model", "Progress", "Result", "Run", "load"]
