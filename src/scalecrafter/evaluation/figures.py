"""From rows to figures: each cell of an evaluation as numbers with their intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from .distances import fid, kid
from .inspection import CROPS, OBSERVERS
from .intervals import RESAMPLES, Interval, bootstrap, bootstrap_difference, bootstrap_root_mean_square
from .prompts import ATTRIBUTES
from .rows import PictureRow
from .settings import NATIVE, REAL, Size
from .spectrum import OCTAVES, octaves, sharpness


@dataclass(frozen=True)
class Kind:
    """How a figure is shown."""

    key: str
    heading: str
    meaning: str
    better: str
    """"more", "less" or "none" (neither)."""
    percent: bool = False
    thousandfold: bool = False
    """Whether a thousand times the figure is shown."""
    digits: int = 2
    unit: str = ""


JUDGES = {
    OBSERVERS: "the observer's features",
    "imagenet": "ImageNet features (EfficientNet-Lite0)",
    "inception": "the features of Inception-v3",
}
"""What the distances are in: names of features, of `inspection.FEATURES`."""


def distance_key(figure: str, judge: str) -> str:
    """The key of a distance ("kid_real") in the features of a judge; the observer's has no suffix."""
    return figure if judge == OBSERVERS else f"{figure}_{judge}"


def _distances(judge: str) -> tuple[Kind, ...]:
    suffix, where = "" if judge == OBSERVERS else f" ({judge})", f", in {JUDGES[judge]}"
    crops = f"of {CROPS} crops a picture, not reduced, to real ones"
    texts = (
        ("fid_real", "FID_r", "Fréchet distance to real pictures of the same size"),
        ("kid_real", "KID_r", "kernel distance × 1000 to real pictures of the same size"),
        ("fid_crops", "FID_c", f"Fréchet distance {crops}; {RESAMPLES // CROPS} resamples"),
        ("kid_crops", "KID_c", f"kernel distance × 1000 {crops}"),
        ("fid_native", "FID_b", "Fréchet distance to the model's own native pictures"),
        ("kid_native", "KID_b", "kernel distance × 1000 to the model's own native pictures"),
    )
    return tuple(
        Kind(
            distance_key(figure, judge),
            heading + suffix,
            meaning + where,
            "less",
            thousandfold=figure.startswith("kid"),
            digits=1 if figure.startswith("kid") else 2,
        )
        for figure, heading, meaning in texts
    )


KINDS = (
    Kind("one_object", "one object", "pictures with exactly one animal", "more", percent=True),
    Kind("well_formed", "well formed", "pictures with one animal that has exactly its parts", "more", percent=True),
    Kind("animals", "animals", "animals in a picture, mean", "none"),
    Kind("species", "species", "pictures whose species is the prompt's", "more", percent=True),
    Kind("colour", "colour", "pictures whose colour is the prompt's", "more", percent=True),
    Kind("accessory", "accessory", "pictures whose accessory, or having none, is the prompt's", "more", percent=True),
    *chain.from_iterable(_distances(judge) for judge in JUDGES),
    Kind("sharpness", "sharpness", "log2 of power in the top octave over that of real pictures", "none"),
    Kind("spectrum", "spectrum", f"root mean square, over the finest {OCTAVES} octaves, of log2 of power over that of "
         "real pictures", "less"),
    Kind("seconds", "seconds", "seconds a picture, median", "less", digits=1),
    Kind("peak_memory", "memory", "peak memory of a picture in GiB, median", "less", unit=" GiB"),
)  # fmt: skip


@dataclass(frozen=True)
class CellFigures:
    """One method at one size."""

    method: str
    size: Size
    pictures: int
    figures: Mapping[str, Interval]
    """By key of `KINDS`; a figure that is not known is missing."""
    compared_real: int = 0
    """Pictures on each side of FID_r and KID_r."""
    compared_native: int = 0
    """Pictures on each side of FID_b and KID_b."""
    compared_crops: int = 0
    """Pictures on each side of FID_c."""


def cells(rows: Sequence[PictureRow]) -> dict[tuple[Size, str], list[PictureRow]]:
    """Rows by size and method: sizes by area, and in each native, then methods as they come, then real pictures."""
    found: dict[tuple[Size, str], list[PictureRow]] = {}
    for row in rows:
        found.setdefault(((row.width, row.height), row.method), []).append(row)
    return found


def measure(
    rows: Sequence[PictureRow],
    real: Mapping[Size, Sequence[PictureRow]],
    order: Sequence[str],
    seed: int = 0,
    report: Callable[[int, int], None] | None = None,
) -> list[CellFigures]:
    """The figures of every cell of a run, with those of the real pictures in each size for comparison.

    Args:
        rows: of the run, native pictures among them.
        real: real pictures by size.
        order: labels in the order of the report.
        seed: of the resampling.
        report: called with (cells done, all cells).
    """
    found = cells(rows)
    native = [row for (_, method), members in found.items() if method == NATIVE for row in members]
    sizes = sorted({size for size, _ in found}, key=lambda size: (size[0] * size[1], size[0]))
    labels = [NATIVE, *(label for label in order if label != NATIVE)]
    labels += sorted({method for _, method in found} - set(labels))
    wanted = [(size, label) for size in sizes for label in labels if (size, label) in found]
    measured = []
    for done, (size, label) in enumerate(wanted):
        if report is not None:
            report(done, len(wanted))
        references = real.get(size, ()), () if label == NATIVE else native
        measured.append(measure_cell(label, size, found[size, label], *references, seed=seed))
        last_of_size = done + 1 == len(wanted) or wanted[done + 1][0] != size
        if last_of_size and real.get(size):
            measured.append(measure_cell(REAL, size, real[size], (), (), seed=seed))
    return measured


def measure_cell(
    method: str,
    size: Size,
    rows: Sequence[PictureRow],
    real: Sequence[PictureRow],
    native: Sequence[PictureRow],
    seed: int = 0,
) -> CellFigures:
    """The figures of one cell against real pictures of its size and native pictures of its model (none: left out)."""
    metrics = [row.metrics for row in rows]
    of_pictures: dict[str, Sequence[float | None]] = {
        "one_object": [seen.one_object for seen in metrics],
        "well_formed": [seen.well_formed for seen in metrics],
        "animals": [seen.animals for seen in metrics],
    }
    for name in ATTRIBUTES:
        of_pictures[name] = [_as_promised(row, name) for row in rows]
    found = {key: bootstrap(_known(values), seed=seed) for key, values in of_pictures.items()}
    found["seconds"] = bootstrap(_known([row.seconds for row in rows]), "median", seed=seed)
    peaks = [row.peak_memory / 2**30 for row in rows if row.peak_memory is not None]
    found["peak_memory"] = bootstrap(peaks, "median", seed=seed)
    compared = {"real": 0, "native": 0, "crops": 0}
    for judge in JUDGES:
        for side, reference, crops in (("real", real, False), ("native", native, False), ("crops", real, True)):
            ours, theirs = _comparable(rows, reference, judge, crops=crops)
            if len(ours):
                each = CROPS if crops else 1
                compared[side] = max(compared[side], len(ours) // each)
                options = {"each": each, "seed": seed}
                fewer = RESAMPLES // each
                found[distance_key(f"fid_{side}", judge)] = fid(ours, theirs, **options, resamples=fewer)
                found[distance_key(f"kid_{side}", judge)] = kid(ours, theirs, **options)
    light = [sharpness([row.metrics.top_octave for row in side]) for side in (rows, real)]
    found["sharpness"] = bootstrap_difference(*light, seed=seed)
    power = [octaves([row.metrics.spectrum for row in side]) if side else () for side in (rows, real)]
    found["spectrum"] = bootstrap_root_mean_square(*power, seed=seed)
    known = {key: interval for key, interval in found.items() if interval is not None}
    return CellFigures(method, size, len(rows), known, compared["real"], compared["native"], compared["crops"])


def _known(values: Sequence[float | None]) -> list[float]:
    return [float(value) for value in values if value is not None]


def _as_promised(row: PictureRow, attribute: str) -> bool | None:
    """Whether a picture shows what its prompt promises; None if one of the two is unknown."""
    if attribute not in row.expected or attribute not in row.metrics.attributes:
        return None
    return row.expected[attribute] == row.metrics.attributes[attribute]


def _comparable(
    rows: Sequence[PictureRow], reference: Sequence[PictureRow], judge: str, *, crops: bool = False
) -> tuple[list[list[float]], list[list[float]]]:
    """The features of equally many pictures on both sides, the first of each; none where there are fewer than two.

    With `crops`, those of every picture's crops, one after the other.
    """
    views: list[list[list[list[float]]]] = []
    for side in (rows, reference):
        seen = [row.metrics.features[judge] for row in side if judge in row.metrics.features]
        of_side = [features.crops if crops else [features.whole] for features in seen]
        views.append([view for view in of_side if view and all(view)])
    ours, theirs = views
    number = min(len(ours), len(theirs))
    if number < 2:
        return [], []
    return list(chain.from_iterable(ours[:number])), list(chain.from_iterable(theirs[:number]))
