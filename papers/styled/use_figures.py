"""Figures of the uses of PARASOL: texts in place of images, variations of a content, a session of generative search."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from papers.styled.study import STYLES, Cells, Pixels, Study
from sfumato.retrieval.files import ImageFile, image_files
from sfumato.retrieval.index import ImageIndex
from sfumato.retrieval.indexing import index_files
from sfumato.retrieval.query import Query, QueryPart
from sfumato.retrieval.search import Hit, search

Sheet = tuple[list[list[Pixels]], list[list[str]]]
"""Rows of images, and their labels."""
FOUND = 6
"""Images of a search."""
SEARCHED = "fox"
"""Text of the first search of the session."""
FIRST, SECOND = "twemoji", "fluent-flat"
"""Styles of the session."""


def texts(study: Study, groups: Sequence[Cells]) -> Sheet:
    """One cell per style: style and content by images, the style by its name, the content by its name."""
    rows, labels = [], []
    for cells in (each.part(0, 1) for each in groups):
        inverted = study.model.invert(cells.contents, cells.captions, method="parasol", steps=study.size.steps)
        by_images = study.options(cells)
        by_name = study.options(cells, style_text=cells.style)
        del by_name["style"]
        name = cells.captions[0].rpartition(", ")[0]
        made = [inverted.edit("", **each).pixels[0] for each in (by_images, by_name)]
        made.append(inverted.edit("", **study.options(cells, content_text=name)).pixels[0])
        rows.append([cells.contents[0], np.asarray(Image.open(study.styles[cells.style])), *made])
        labels.append([cells.captions[0], "style image", "by images", f'style "{cells.style}"', f'content "{name}"'])
    return rows, labels


def diversity(study: Study, groups: Sequence[Cells]) -> Sheet:
    """Images from noise under the descriptors of one content and one style, with different seeds."""
    rows, labels = [], []
    for number, cells in enumerate(each.part(0, 1) for each in groups):
        path = study.folder / f"varied-{number}.png"
        Image.fromarray(cells.contents[0]).save(path)
        method = ("parasol", study.options(cells, content={str(path): 1.0}, lam=0))
        del method[1]["residual"]
        seeds = list(range(FOUND))
        made = study.model.generate(cells.captions[0], seed=seeds, methods=[method], steps=study.size.steps).pixels
        style = np.asarray(Image.open(study.styles[cells.style]))
        rows.append([cells.contents[0], style, *made])
        labels.append([cells.captions[0], "style image", *(f"seed {seed}" for seed in seeds)])
    return rows, labels


def session(study: Study, folder: Path) -> Sheet:
    """Generative search: search by text, adapt an image to a style, search with the result, adapt what is found.

    Args:
        study: the model and the corpus.
        folder: folder of the index, which is created or continued.
    """
    files = {each.path: each for each in _searched(study)}
    index = ImageIndex.create(str(folder / "index"), study.describers, list(files.values()))
    for _ in index_files(index, study.describers, list(files.values())):
        pass

    def find(where: str = "", **parts: QueryPart) -> list[Hit]:
        vectors = {name: part.vector(study.describers, name, index) for name, part in parts.items()}
        query = Query.of({name: vector for name, vector in vectors.items() if vector is not None}, {})
        return search(index, query, FOUND, where=where)

    def drawing(hit: Hit) -> Pixels:
        return files[Path(hit.row["path"])].squares([study.side])[0].transpose(1, 2, 0)

    first = find(content=QueryPart(texts=[SEARCHED]))
    adapted = _adapted(study, drawing(first[0]), str(first[0].row["caption"]), FIRST)
    path = folder.resolve() / "adapted.png"
    Image.fromarray(adapted).save(path)
    result = QueryPart(images=[ImageFile(path)])
    second = find(f"name != '{first[0].row['name']}'", content=result, style=result)
    again = _adapted(study, drawing(second[0]), str(second[0].row["caption"]), SECOND)
    blank: Pixels = np.full((study.side, study.side, 3), 235, np.uint8)
    style = {name: np.asarray(Image.open(study.styles[name])) for name in (FIRST, SECOND)}
    rows = [
        [blank, *map(drawing, first)],
        [drawing(first[0]), style[FIRST], adapted],
        [adapted, *map(drawing, second)],
        [drawing(second[0]), style[SECOND], again],
    ]
    labels = [
        [f'search: "{SEARCHED}"', *(str(each.row["caption"]) for each in first)],
        ["picked", "style image", "adapted"],
        ["search: content and style", *(str(each.row["caption"]) for each in second)],
        ["picked", "style image", "adapted"],
    ]
    return rows, labels


def _searched(study: Study) -> list[ImageFile]:
    """The training drawings of `study.kinds` in the measured styles."""
    return [
        each
        for each in image_files(study.data)
        if each.columns["style"] in STYLES
        and each.columns["split"] == "train"
        and not each.columns["skin_tone"]
        and (not study.kinds or each.columns["subgroup"] in study.kinds)
    ]


def _adapted(study: Study, pixels: Pixels, prompt: str, style: str) -> Pixels:
    """An image in another style; its content is that of its name, which the encoder confuses less than the image."""
    name = prompt.rpartition(", ")[0]
    options: dict[str, Any] = {"parasol": str(study.parasol), **study.encoders, "content_text": name}
    inverted = study.model.invert(pixels, prompt, method="parasol", steps=study.size.steps)
    return inverted.edit("", style={str(study.styles[style]): 1.0}, **options).pixels[0]
