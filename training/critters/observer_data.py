"""The observer's pictures and labels as arrays on disk, made once.

`pictures.npy` is uint8 `(count, 256, 256, 3)`, `marks.npy` float32 `(count, MARKS, 6)`: the rows of one picture are
(index in KINDS, x, y, radius, seen, height of its animal), lengths in pixels, unused rows NaN.  Row i is the sample of
seed `first_seed + i`.  A set whose making was interrupted goes on from the row that it had reached.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .observer_parts import KINDS, SeenPart
from .observer_scenes import SIDE, Sample, draw, sample_of
from .scene import ACCESSORIES, COLOURS, PATTERNS, PLACES, SHIPPED_WORLD, SPECIES, TIMES

MARKS = 128
ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "species": SPECIES,
    "colour": COLOURS,
    "accessory": ACCESSORIES,
    "pattern": PATTERNS,
    "place": PLACES,
    "time": TIMES,
}
"""What the classifier learns; the last two are known of every picture, the others of pictures with one animal."""
_CHUNK = 50


@dataclass(frozen=True)
class ObserverSet:
    """Pictures with their labels, in the order of their seeds."""

    pictures: NDArray[np.uint8]
    marks: NDArray[np.float32]
    samples: list[Sample]

    def attributes(self) -> NDArray[np.int64]:
        """`(count, len(ATTRIBUTES))` indices into the vocabulary, -1 where there is nothing to know."""
        return np.array([_attributes(sample) for sample in self.samples], np.int64)


def _attributes(sample: Sample) -> list[int]:
    scene = (PLACES.index(sample.scene.place), TIMES.index(sample.scene.time))
    animal = sample.lone
    if animal is None:
        return [-1, -1, -1, -1, *scene]
    return [
        SPECIES.index(animal.species),
        COLOURS.index(animal.colour),
        ACCESSORIES.index(animal.accessory),
        PATTERNS.index(animal.pattern),
        *scene,
    ]


def rows_of(parts: list[SeenPart]) -> NDArray[np.float32]:
    """Labels as `(MARKS, 6)` rows."""
    heights: dict[int, float] = {}
    for part in parts:
        if part.kind == "animal":
            heights.setdefault(part.animal, 2 * part.radius)  # its own: a second head comes after it
    rows = np.full((MARKS, 6), np.nan, np.float32)
    for row, part in zip(rows, parts):
        # An animal of which only parts show (its own strokes all hidden) has no mark of its own: size unknown, 0.
        height = heights.get(part.animal, 0.0)
        row[:] = (KINDS.index(part.kind), part.x, part.y, part.radius, part.seen, height)
    return rows


def observer_set(
    folder: Path,
    count: int,
    first_seed: int = 0,
    workers: int = 1,
    report: Callable[[str], None] = print,
    world: str = SHIPPED_WORLD,
) -> ObserverSet:
    """The set in `folder`, drawn now as far as it is not there."""
    progress = folder / "progress.json"
    done = 0
    if progress.exists():
        state = json.loads(progress.read_text())
        if state["first_seed"] != first_seed:
            raise ValueError(f"{folder} holds seeds from {state['first_seed']}, not {first_seed}: take another folder")
        if state.get("world", "flat") != world:
            raise ValueError(f"{folder} holds the {state['world']} world, not the {world} one: take another folder")
        if state["count"] >= count:
            done, count_there = int(state["done"]), int(state["count"])
        else:
            raise ValueError(
                f"{folder} was made for {state['count']} pictures, and {count} are wanted: remove the folder"
            )
    else:
        folder.mkdir(parents=True, exist_ok=True)
        count_there = count
        np.lib.format.open_memmap(folder / "pictures.npy", "w+", np.uint8, (count, SIDE, SIDE, 3))
        np.lib.format.open_memmap(folder / "marks.npy", "w+", np.float32, (count, MARKS, 6))
    if done < count:
        pictures = np.load(folder / "pictures.npy", mmap_mode="r+")
        marks = np.load(folder / "marks.npy", mmap_mode="r+")
        starts = range(done, count, _CHUNK)
        with ProcessPoolExecutor(workers) as pool:
            jobs = [(first_seed + start, min(_CHUNK, count - start), world) for start in starts]
            for start, (block, rows) in zip(starts, pool.map(_draw, jobs), strict=True):
                pictures[start : start + len(block)], marks[start : start + len(block)] = block, rows
                pictures.flush()
                marks.flush()
                done = start + len(block)
                progress.write_text(
                    json.dumps({"count": count_there, "first_seed": first_seed, "done": done, "world": world})
                )
                if done % (20 * _CHUNK) == 0 or done == count:
                    report(f"drew {done}/{count} pictures of {folder.name}")
    return ObserverSet(
        np.load(folder / "pictures.npy", mmap_mode="r")[:count],
        np.load(folder / "marks.npy", mmap_mode="r")[:count],
        [sample_of(first_seed + i, world) for i in range(count)],
    )


def _draw(job: tuple[int, int, str]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    first_seed, count, world = job
    drawn = [draw(sample_of(first_seed + i, world)) for i in range(count)]
    return np.stack([picture for picture, _ in drawn]), np.stack([rows_of(parts) for _, parts in drawn])
