"""What is learnt after the network is: thresholds and anatomies; and how often the observer is right.

Thresholds and the mouth's place are chosen on validation pictures, the report is made on others.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from scalecrafter.evaluation.observer import Observation, Observer
from scalecrafter.evaluation.observer_card import Anatomy, CloserView, mouth_from_eyes
from scalecrafter.evaluation.observer_peaks import ANIMAL_REACH, PART_REACH, marks_of, peaks

from .observer_data import ObserverSet
from .observer_parts import KINDS
from .observer_scenes import SIDE, Sample
from .observer_targets import SMALL, counts
from .scene import FRAMING_BOUNDS, SPECIES, framing_of
from .species import BUILDS

RARE = 0.02
"""A count that fewer of a species' whole animals show is not one of a whole animal."""
OFF_RENDERS = 0.25
"""By how many distances between the eyes a mouth may stray further than in 99 of 100 validation pictures."""
FLOORS = tuple(round(0.1 + 0.025 * k, 3) for k in range(29))


class Rate(TypedDict):
    """How many answers of one sort were right."""

    right: int
    of: int
    rate: float


def choose_thresholds(heat: NDArray[np.float32], marks: NDArray[np.float32]) -> dict[str, float]:
    """For each kind the floor of peaks that gives the most exact counts; the middle one of equals.

    `heat` is `(count, kinds, rows, columns)`, `marks` the labels of the same pictures.
    """
    right = np.stack([counts(rows) for rows in marks])
    chosen = {}
    for k, kind in enumerate(KINDS):
        reach = ANIMAL_REACH if kind == "animal" else PART_REACH
        scores = [np.array([score for *_, score in peaks(plane, reach, FLOORS[0])]) for plane in heat[:, k]]
        exact = []
        for floor in FLOORS:
            found = np.array([(values >= floor).sum() for values in scores])
            exact.append(int(((found >= right[:, k, 0]) & (found <= right[:, k, 1])).sum()))
        best = [floor for floor, score in zip(FLOORS, exact, strict=True) if score == max(exact)]
        chosen[kind] = best[len(best) // 2]
    return chosen


View = dict[str, tuple[int, int]]
"""How many of each kind of part show: least and most."""
VIEWS = (0.0, *FRAMING_BOUNDS[1:])
"""Heights, in the picture's shorter sides, from which on the frame cuts more of an animal."""


def part_counts(data: ObserverSet) -> dict[str, list[View]]:
    """Of each species the counts of parts that its whole animals show, from the labels of lone ones, in each view.

    A view of which there are no pictures (in the flat world, all but the first) is left out.
    """
    ranges: dict[tuple[str, int, str], list[tuple[int, int]]] = defaultdict(list)
    for sample, rows in zip(data.samples, data.marks, strict=True):
        if sample.lone is None or sample.faults:
            continue
        view = view_of(sample)
        for kind, (least, most) in zip(KINDS[1:], counts(rows)[1:].tolist(), strict=True):
            faint = kind == "mouth" and least < most  # it may be overlooked, but no whole animal is without a mouth
            if least >= 0 and not faint:
                ranges[sample.lone.species, view, kind].append((least, most))
    out: dict[str, list[View]] = {}
    for species in SPECIES:
        out[species] = []
        for view in sorted({view for _, view, _ in ranges}):
            parts = {}
            for kind in KINDS[1:]:
                seen = ranges[species, view, kind]
                if not seen and view == 0:
                    raise ValueError(f"no whole {species} is large enough in {len(data.samples)} pictures: draw more")
                if not seen:  # too few pictures for a view of its own
                    parts[kind] = out[species][-1][kind]
                    continue
                possible = range(max(most for _, most in seen) + 1)
                usual = [n for n in possible if np.mean([least <= n <= most for least, most in seen]) >= RARE]
                parts[kind] = (min(usual), max(usual))
            out[species].append(parts)
    return out


def view_of(sample: Sample) -> int:
    """Which of the views shows the sample's first animal; the flat world has one."""
    if sample.scene.world == "flat":
        return 0
    return sum(sample.scene.animals[0].height >= height for height in VIEWS[1:])


def eyes_apart_at(species: str, height: float) -> float:
    """How far apart the eyes of an animal of this height are, in the same unit."""
    build = BUILDS[species]
    return 2 * build.eye_x * build.head_r * height


def learn_anatomy(
    table: dict[str, list[View]],
    heat: NDArray[np.float32],
    data: ObserverSet,
    thresholds: dict[str, float],
) -> dict[str, Anatomy]:
    """Add to the table where the network finds the mouths of whole lone animals: 99 of 100, and a margin."""
    places: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for sample, rows, planes in zip(data.samples, data.marks, heat, strict=True):
        if sample.lone is None or sample.faults or counts(rows)[1, 0] < 0:
            continue
        place = mouth_from_eyes(marks_of(planes, KINDS, thresholds))
        if place is not None:
            places[sample.lone.species].append(place)
    out = {}
    for species, views in table.items():
        along, across = np.array(places[species] or [(0.0, 0.5)]).T
        low, high = np.quantile(across, (0.005, 0.995))
        out[species] = Anatomy(
            parts=views[0],
            closer=tuple(
                CloserView(eyes_apart=round(eyes_apart_at(species, height), 4), parts=parts)
                for height, parts in zip(VIEWS[1:], views[1:], strict=False)
            ),
            mouth_along=(0.0, round(float(np.quantile(along, 0.99)) + OFF_RENDERS, 3)),
            mouth_across=(round(float(low) - OFF_RENDERS, 3), round(float(high) + OFF_RENDERS, 3)),
        )
    return out


def is_malformed(sample: Sample, rows: NDArray[np.float32], anatomy: Anatomy) -> bool | None:
    """Whether a lone animal shows that it is malformed; None where its parts are too small, or its fault hidden."""
    right = dict(zip(KINDS, counts(rows).tolist(), strict=True))
    if right["eye"][0] < 0:
        return None
    if not sample.faults:
        return False
    parts = [anatomy.parts, *(view.parts for view in anatomy.closer)][min(view_of(sample), len(anatomy.closer))]
    outside = any(right[kind][1] < low or right[kind][0] > high for kind, (low, high) in parts.items())
    return True if outside or "melted" in sample.faults else None


def evaluate(observer: Observer, data: ObserverSet, pictures: NDArray[np.uint8]) -> dict[str, Rate]:
    """Rates of right answers on pictures `(count, 256, 256, 3)`, which may be degraded forms of the set's own."""
    seen: list[Observation] = []
    for start in range(0, len(pictures), 64):
        seen += observer.observe(list(pictures[start : start + 64]))
    right = [counts(rows) for rows in data.marks]
    rows = list(zip(data.samples, data.marks, right, seen, strict=True))

    tally = _Tally()
    for sample, marks, ranges, observation in rows:
        exact = ranges[0, 0] <= observation.animals <= ranges[0, 1]
        tally.add("animals", exact)
        tally.add(f"animals, {len(sample.scene.animals)} there", exact)
        heights = marks[marks[:, 0] == 0, 5] / SIDE
        if len(heights):
            scale = next(name for limit, name in _SCALES if heights.min() <= limit)
            tally.add(f"animals, the smallest {scale} of the side", exact)
        for k, kind in enumerate(KINDS[1:], 1):
            if ranges[k, 0] >= 0:
                tally.add(f"{kind}s", ranges[k, 0] <= observation.parts[kind] <= ranges[k, 1])
        if sample.lone is None:
            continue
        if len(heights) and heights[0] * SIDE >= SMALL:
            for name in ("species", "colour", "accessory"):
                tally.add(name, getattr(observation, name) == getattr(sample.lone, name))
        truth = is_malformed(sample, marks, observer.card.anatomy[sample.lone.species])
        if truth is False:
            tally.add("whole animals found well-formed", observation.well_formed)
            if sample.scene.world == "detailed":
                framing = framing_of(sample.scene.animals[0].height)
                tally.add(f"whole animals found well-formed: {framing}", observation.well_formed)
        elif truth:
            tally.add("malformed animals found out", not observation.well_formed)
            if len(sample.faults) == 1:
                tally.add(f"found out: {sample.faults[0]}", not observation.well_formed)
    return tally.rates()


_SCALES = ((0.25, "1/8 to 1/4"), (0.5, "1/4 to 1/2"), (9.9, "1/2 to all"))


class _Tally:
    def __init__(self) -> None:
        self.answers: dict[str, list[bool]] = defaultdict(list)

    def add(self, name: str, right: bool) -> None:
        self.answers[name].append(bool(right))

    def rates(self) -> dict[str, Rate]:
        return {
            name: Rate(right=sum(answers), of=len(answers), rate=round(float(np.mean(answers)), 4))
            for name, answers in sorted(self.answers.items())
        }


def table_of(report: Mapping[str, Mapping[str, Rate]]) -> list[str]:
    """The report as lines of a Markdown table."""
    forms = list(report)
    names = list(dict.fromkeys(name for form in forms for name in report[form]))
    lines = ["| right | " + " | ".join(forms) + " |", "|---" * (len(forms) + 1) + "|"]
    for name in names:
        cells = [report[form].get(name) for form in forms]
        shown = [f"{100 * cell['rate']:.1f} % of {cell['of']}" if cell else "–" for cell in cells]
        lines.append(f"| {name} | " + " | ".join(shown) + " |")
    return lines
