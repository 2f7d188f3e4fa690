"""Implementation of `Model.open`."""

from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image
from torch import Tensor

from sfumato.api.arguments import as_list, check_batch
from sfumato.api.extra import extra_condition
from sfumato.api.group import Group, of_one_size, padded_size
from sfumato.api.inverted import Inverted
from sfumato.api.loaded import Loaded
from sfumato.api.parameters import check_params
from sfumato.api.reading import ENTRIES, check_reading
from sfumato.api.resolution import at_resolution, check_resolution
from sfumato.editing.registry import METHODS, Method
from sfumato.errors import BadInput
from sfumato.images import LoadedImage, read_image
from sfumato.images.loaded_image import image_fingerprint
from sfumato.inversion import Inversion
from sfumato.options.params import check_names


def opened(
    model: Loaded, inversion: Inversion, name: str, images: Any, batch: int | None, parts: Mapping[str, Tensor]
) -> Inverted:
    """Check an inversion against the model and the images; see `Model.open_loaded`.

    `parts` are the maps, labels and tokens, from `read_extra`.
    """
    network = model.network
    inversion.check_model(network.fingerprint())
    stored = dict(inversion.parameters)
    read = {name: stored.pop(name) for name in ENTRIES if name in stored}
    check_reading(network, read, "This inversion", "invert the image again")
    method = METHODS.find(str(stored.pop("method", "")))
    resolution = stored.pop("resolution", "full")  # files of earlier versions have none
    for entry in ("tiles", "resolution_default"):
        stored.pop(entry, False)
    inverted_with = stored.pop("batch", None)
    check_batch(inverted_with)
    batch = batch or inverted_with  # an exact inversion is exact if its replay evaluates the same batches
    check_resolution(network, resolution)
    loaded = at_resolution(network, resolution, _read_sources(inversion, images, name))
    size = padded_size(network, loaded[0].size)
    inversion.check_fits(len(network.schedule), network.latent_shape(*size))
    params = _params(model, method, stored, inversion.steps, name)
    extra = extra_condition(network, parts, len(loaded), [network.latent_shape(*size)[1:]])
    inversion = inversion.to(network.device)
    groups = [
        Group(network, rows, [loaded[i] for i in rows], part, model.condition(part.prompts, size, extra[rows]))
        for rows in of_one_size(network, loaded, batch)
        for part in [inversion.rows(rows)]
    ]
    return Inverted(model, method, params, groups, {"parameters": dict(inversion.parameters)}, batch)


def _read_sources(inversion: Inversion, images: Any, name: str) -> list[LoadedImage]:
    """The source images: those of the caller, which must be the inverted images, or those stored in the file."""
    if inversion.pixels is None or not len(inversion.prompts) == len(inversion.seeds) == len(inversion.images):
        raise BadInput(f"{name} lacks its images, prompts or seeds: invert the image again.")
    given = _stored_images(inversion.pixels, inversion.names) if images is None else as_list(images)
    height, width = inversion.pixels.shape[1:3]
    # The images may have been inverted with a larger max_pixels, so their stored size is the limit.
    loaded = [read_image(each, max_pixels=height * width) for each in given]
    if tuple(image_fingerprint(each) for each in loaded) != inversion.images:
        raise BadInput("These are not the images of this inversion: give the inverted images, or leave them out.")
    return loaded


def _stored_images(pixels: Tensor, names: Sequence[str]) -> list[Image.Image]:
    """The stored images, with the names of the original files; inversions of earlier versions have no names."""
    found = [Image.fromarray(each.numpy()) for each in pixels]
    for image, name in zip(found, names, strict=False):
        image.filename = name
    return found


def _params(model: Loaded, method: Method, stored: dict[str, Any], steps: int, name: str) -> Any:
    """The parameters of the inversion, checked against those of the method."""
    check_names(stored, method.params, ("invert", "edit"), f"the method {method.name} of {name}")
    params = method.params(**stored)
    check_params(model.network, params)
    if getattr(params, "steps", steps) != steps:
        raise BadInput(
            f"{name} is damaged: it has {steps} steps but its parameters have another number; invert the image again."
        )
    return params
