"""Real pictures to compare with: those that ship with the package for critters, or a folder of the user's.

They become rows like generated pictures and get the same figures. `training/critters/real_pictures.py` made the
shipped ones.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from importlib import resources
from pathlib import Path

from PIL import Image, ImageOps

from ..request.inputs import open_picture
from ..request.request import RequestError
from .inspection import OBSERVERS, Inspector, PictureMetrics, agreeing
from .prompts import Prompt
from .rows import PictureRow, read_parquet
from .settings import REAL, Size

SHIPPED = Path(str(resources.files(__package__))) / "real" / "critters.parquet"
"""Metrics of real pictures of critters, at the usual sizes."""
SIGNATURE = "examiner signature"
"""Key of the metadata of the shipped file."""
_SIZED = re.compile(r"\d+x\d+")
ENDINGS = (".png", ".jpg", ".jpeg", ".webp")


def real_rows(
    size: Size,
    limit: int,
    inspector: Inspector,
    folder: Path | None,
    shipped: Path | None,
    report: Callable[[int, int], None],
) -> tuple[list[PictureRow], str]:
    """Real pictures of a size, and where they are from (or why there are none), in words.

    Args:
        size: (width, height) in image pixels.
        limit: how many at most.
        inspector: looks at the pictures of `folder`; `shipped` counts only if the same one has looked at it.
        folder: the user's pictures: all in it or, if it has folders named `WIDTHxHEIGHT`, the one of this size.
        shipped: figures of real pictures, if they are a fair comparison (`SHIPPED` for critters).
        report: called with (pictures seen, all pictures).

    Raises:
        RequestError: for a folder that is missing or empty, and for pictures smaller than `size`, which could not
            show what real detail is.
    """
    name = f"{size[0]}x{size[1]}"
    if folder is not None:
        sized = folder / name
        if not sized.is_dir() and any(_SIZED.fullmatch(entry.name) for entry in folder.glob("*")):
            return [], f"{folder} has folders of other sizes, and none named {name}"
        chosen = sized if sized.is_dir() else folder
        return _seen(chosen, size, limit, inspector, report), f"the pictures in {chosen}"
    if shipped is None:
        return [], "no real pictures were named (--real FOLDER)"
    render = (
        f"python -m training.critters.real_pictures --size {name} --output FOLDER (in a checkout), then --real FOLDER"
    )
    if not shipped.is_file():
        return [], f"no figures of real renders are installed: {render}"
    rows, metadata = read_parquet(shipped)
    signature = inspector.signature()
    same = agreeing(json.loads(metadata[SIGNATURE]), signature) - {"animals"}
    if not same:
        return [], f"the shipped figures of real renders are of another observer or other features: {render}"
    found = [
        row.model_copy(update={"metrics": _of_networks(row.metrics, same)})
        for row in rows
        if (row.width, row.height) == size
    ][:limit]
    if not found:
        return [], f"no real renders of {name} ship: {render}"
    lacking = ", ".join(sorted(signature.keys() - same - {"animals"}))
    return found, "shipped figures of real renders" + (f", without those of {lacking}: {render}" if lacking else "")


def _of_networks(metrics: PictureMetrics, names: set[str]) -> PictureMetrics:
    """What is left of the metrics of a picture if only these networks saw it."""
    features = {name: features for name, features in metrics.features.items() if name in names}
    if OBSERVERS in names:
        return metrics.model_copy(update={"features": features})
    return PictureMetrics(features=features, spectrum=metrics.spectrum, top_octave=metrics.top_octave)


def _seen(
    folder: Path, size: Size, limit: int, inspector: Inspector, report: Callable[[int, int], None]
) -> list[PictureRow]:
    if not folder.is_dir():
        raise RequestError(f"there is no folder {str(folder)!r} with real pictures")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in ENDINGS)[:limit]
    if len(paths) < 2:
        raise RequestError(f"{str(folder)!r} holds {len(paths)} pictures ({', '.join(ENDINGS)}): give at least 2")
    rows = []
    for index, path in enumerate(paths):
        rows.append(inspected(_open(path, size), index, path.name, inspector))
        report(index + 1, len(paths))
    return rows


def inspected(
    picture: Image.Image, index: int, name: str, inspector: Inspector, prompt: Prompt | None = None
) -> PictureRow:
    """The row of a real picture, and of what it is known to show."""
    return PictureRow(
        file=name,
        method=REAL,
        width=picture.width,
        height=picture.height,
        index=index,
        prompt=prompt.text if prompt else "",
        expected=prompt.expected if prompt else {},
        metrics=inspector.inspect(picture),
    )


def _open(path: Path, size: Size) -> Image.Image:
    """A picture at `size`: reduced to fill it, and cropped around its middle where the shapes differ."""
    picture = open_picture("real picture", str(path)).convert("RGB")
    if picture.width < size[0] or picture.height < size[1]:
        raise RequestError(
            f"the real picture {str(path)!r} is {picture.width}×{picture.height}, smaller than the "
            f"{size[0]}×{size[1]} that it is compared with: give larger ones, or leave --real out"
        )
    return ImageOps.fit(picture, size, Image.Resampling.LANCZOS)
