"""Renders and captions as arrays on disk, made once and shared by the trainings.

A render set is a memory-mapped uint8 array `(count, 256, 256, 3)`: scene `first_seed + i` at row i.
Rows are drawn by several processes; a set whose making was interrupted is made again from the row it had reached.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .captions import caption
from .renderer import render, render_with_parts
from .scene import sample_scene

NATIVE = 256
HELD_OUT_SEED = 10_000_000
"""Scenes from this seed on are never trained on."""
CAPTIONS_PER_SCENE = 4
DETAIL_REACH = 1.4
"""How far details are taken to go, in radii of their marks: an outline lies about an eye."""
_CHUNK = 64


def captions_of(seed: int) -> list[str]:
    """Several wordings of the scene `seed`."""
    scene = sample_scene(seed)
    rng = np.random.default_rng((seed, 1))
    return [caption(scene, rng) for _ in range(CAPTIONS_PER_SCENE)]


def renders(
    path: Path, count: int, first_seed: int = 0, workers: int = 2, report: Callable[[str], None] = print
) -> NDArray[np.uint8]:
    """The render set at `path`, drawn now if it is not there or is too small."""
    progress = path.with_suffix(".json")
    shape = (count, NATIVE, NATIVE, 3)
    done = 0
    if path.exists() and progress.exists():
        state = json.loads(progress.read_text())
        if state["first_seed"] == first_seed and state["done"] == state["count"] >= count:
            return np.load(path, mmap_mode="r")[:count]
        if state["first_seed"] == first_seed and state["count"] == count:
            done = int(state["done"])
    if done < count:
        path.parent.mkdir(parents=True, exist_ok=True)
        array = np.lib.format.open_memmap(path, "r+" if done else "w+", np.uint8, shape)
        starts = range(done, count, _CHUNK)
        with ProcessPoolExecutor(workers) as pool:
            jobs = [(first_seed + start, min(_CHUNK, count - start)) for start in starts]
            for start, block in zip(starts, pool.map(_draw, jobs), strict=True):
                array[start : start + len(block)] = block
                done = start + len(block)
                if (done // _CHUNK) % 16 == 0 or done == count:
                    array.flush()
                    progress.write_text(json.dumps({"count": count, "first_seed": first_seed, "done": done}))
                    report(f"drew {done}/{count} scenes")
        del array
    return np.load(path, mmap_mode="r")


def details(count: int, cells: int, first_seed: int = 0, workers: int = 2) -> NDArray[np.bool_]:
    """Where the eyes, ears, mouths and tails of the scenes from `first_seed` on are: `(count, cells, cells)`."""
    with ProcessPoolExecutor(workers) as pool:
        seeds = range(first_seed, first_seed + count)
        return np.stack(list(pool.map(_details, seeds, [cells] * count, chunksize=_CHUNK)))


def _details(seed: int, cells: int) -> NDArray[np.bool_]:
    y, x = (np.mgrid[:cells, :cells] + 0.5) / cells
    near = np.zeros((cells, cells), bool)
    for part in render_with_parts(sample_scene(seed), 16, 16)[1]:
        if part.kind != "animal":
            near |= np.hypot(x - part.x, y - part.y) < DETAIL_REACH * part.radius + 0.5 / cells
    return near


def _draw(job: tuple[int, int]) -> NDArray[np.uint8]:
    first_seed, count = job
    return np.stack([render(sample_scene(first_seed + i), NATIVE, NATIVE) for i in range(count)])
