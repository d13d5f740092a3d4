"""Renders and captions as arrays on disk, made once and shared by the trainings.

A render set is a memory-mapped uint8 array `(count, height, width, 3)` of scenes of one shape.  Rows are drawn by
several processes; a set whose making was interrupted is made again from the row it had reached.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .captions import caption
from .renderer import render, render_with_parts
from .scene import SHIPPED_WORLD, sample_scene

NATIVE = 256
HELD_OUT_SEED = 10_000_000
"""Scenes from this seed on are never trained on."""
CAPTIONS_PER_SCENE = 4
DETAIL_REACH = 1.4
"""How far details are taken to go, in radii of their marks: an outline lies about an eye."""
Shape = tuple[int, int]
"""Width and height in pixels."""
SHAPES: dict[Shape, float] = {
    (256, 256): 0.5, (320, 192): 0.125, (192, 320): 0.125, (384, 192): 0.125, (192, 384): 0.125
}  # fmt: skip
"""Aspect buckets of the detailed world and their shares: sides of whole multiples of 64, about the native area."""
_CHUNK = 64


def shape_of(seed: int, world: str = SHIPPED_WORLD) -> Shape:
    """The width and height that the training picture of this scene has."""
    if world == "flat":
        return NATIVE, NATIVE
    lot = np.random.default_rng((seed, 4)).random()
    return list(SHAPES)[int(np.searchsorted(np.cumsum(list(SHAPES.values())), lot, "right"))]


def shapes_of(seeds: Sequence[int], world: str = SHIPPED_WORLD) -> dict[Shape, list[int]]:
    """The seeds by the shape of their pictures, shapes without any left out."""
    found: dict[Shape, list[int]] = {}
    for seed in seeds:
        found.setdefault(shape_of(seed, world), []).append(seed)
    return {shape: found[shape] for shape in SHAPES if shape in found}


def captions_of(seed: int, world: str = SHIPPED_WORLD) -> list[str]:
    """Several wordings of the scene `seed`."""
    scene = sample_scene(seed, world)
    rng = np.random.default_rng((seed, 1))
    return [caption(scene, rng) for _ in range(CAPTIONS_PER_SCENE)]


def renders(
    path: Path,
    seeds: Sequence[int],
    shape: Shape = (NATIVE, NATIVE),
    world: str = SHIPPED_WORLD,
    workers: int = 2,
    report: Callable[[str], None] = print,
) -> NDArray[np.uint8]:
    """The render set at `path`: scenes of `seeds` in this order, drawn now as far as they are not there."""
    progress = path.with_suffix(".json")
    count = len(seeds)
    made_for = {"count": count, "seeds": [*seeds[:2], *seeds[-2:]], "shape": list(shape), "world": world}
    done = 0
    if path.exists() and progress.exists():
        state = json.loads(progress.read_text())
        reached = int(state.pop("done"))
        done = reached if state == made_for else 0
    if done < count:
        path.parent.mkdir(parents=True, exist_ok=True)
        array = np.lib.format.open_memmap(path, "r+" if done else "w+", np.uint8, (count, shape[1], shape[0], 3))
        starts = range(done, count, _CHUNK)
        with ProcessPoolExecutor(workers) as pool:
            jobs = [(list(seeds[start : start + _CHUNK]), shape, world) for start in starts]
            for start, block in zip(starts, pool.map(_draw, jobs), strict=True):
                array[start : start + len(block)] = block
                done = start + len(block)
                if (done // _CHUNK) % 16 == 0 or done == count:
                    array.flush()
                    progress.write_text(json.dumps({**made_for, "done": done}))
                    report(f"drew {done}/{count} scenes of {shape[0]}x{shape[1]}")
        del array
    return np.load(path, mmap_mode="r")


def details(
    seeds: Sequence[int], shape: Shape = (NATIVE, NATIVE), world: str = SHIPPED_WORLD, workers: int = 2
) -> NDArray[np.bool_]:
    """Where the eyes, ears, mouths and tails of scenes are: `(count, height / 8, width / 8)`."""
    with ProcessPoolExecutor(workers) as pool:
        count = len(seeds)
        return np.stack(list(pool.map(_details, seeds, [shape] * count, [world] * count, chunksize=_CHUNK)))


def _details(seed: int, shape: Shape, world: str) -> NDArray[np.bool_]:
    columns, rows = shape[0] // 8, shape[1] // 8
    scene = replace(sample_scene(seed, world), world="flat")  # the same parts, drawn sooner
    y, x = np.mgrid[:rows, :columns] + 0.5
    near = np.zeros((rows, columns), bool)
    for part in render_with_parts(scene, columns, rows)[1]:
        if part.kind != "animal":
            distance = np.hypot(x - part.x * columns, y - part.y * rows)
            near |= distance < DETAIL_REACH * part.radius * rows + 0.5
    return near


def _draw(job: tuple[list[int], Shape, str]) -> NDArray[np.uint8]:
    seeds, shape, world = job
    return np.stack([render(sample_scene(seed, world), *shape) for seed in seeds])
