"""Animals that are wrong on purpose: the faults of generated pictures, drawn by lot.

A fault says which copies of a part are drawn (`scene.Placement`); it knows nothing of pixels.  `CHANGES` is the
contract: by how many each fault changes the parts that are drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from .faces import EARLESS
from .scene import LONE, PAIR, Animal, Placement
from .species import BUILDS

Copies = dict[str, tuple[Placement, ...]]
Spot = tuple[float, float]

CHANGES: Mapping[str, Mapping[str, int]] = {
    "third eye": {"eye": 1},
    "fourth eye": {"eye": 2},
    "one eye": {"eye": -1},
    "no eyes": {"eye": -2},
    "second mouth": {"mouth": 1},
    "no mouth": {"mouth": -1},
    "third ear": {"ear": 1},
    "one ear": {"ear": -1},
    "no ears": {"ear": -2},
    "second tail": {"tail": 1},
    "no tail": {"tail": -1},
    "second head": {"eye": 2, "ear": 2, "mouth": 1},
    "melted": {},
}
"""Every fault and what it does to the count of each kind of part (ears: of species that have any)."""
SHARE: Mapping[str, float] = {"third eye": 2.0, "second mouth": 3.0, "third ear": 3.0, "melted": 2.0}
"""How often faults are drawn, beside one of the others: those that are hardest to tell, and commonest in pictures that
models draw, more often."""
MOUTH: Spot = (0.0, 0.45)
"""About where a mouth is, in head radii."""


def faults_of(species: str) -> tuple[str, ...]:
    """The faults that an animal of this species can have."""
    without = [kind for kind, lacks in (("ear", species in EARLESS), ("tail", species == "frog")) if lacks]
    return tuple(name for name, change in CHANGES.items() if name == "second head" or not set(change) & set(without))


def malform(animal: Animal, faults: tuple[str, ...], rng: np.random.Generator) -> Animal:
    """The animal with these faults; `ValueError` where its species cannot have one, or two concern the same part."""
    copies: Copies = {}
    for name in faults:
        if name not in faults_of(animal.species):
            raise ValueError(
                f"a {animal.species} cannot have the fault {name!r}; it can have {', '.join(faults_of(animal.species))}"
            )
        new = _DRAWN[name](animal, rng)
        if set(new) & set(copies):
            raise ValueError(f"the faults {', '.join(faults)} concern the same part; take one fault for each part")
        copies |= new
    return replace(animal, malformed=tuple(copies.items()))


def sample_faults(species: str, rng: np.random.Generator) -> tuple[str, ...]:
    """One fault; for one animal in six, a second one of another part."""
    names = faults_of(species)
    weights = np.array([SHARE.get(name, 1.0) for name in names])
    first = names[int(rng.choice(len(names), p=weights / weights.sum()))]
    if first in ("second head", "melted") or rng.random() > 1 / 6:
        return (first,)
    others = [n for n in names if n not in ("second head", "melted") and not set(CHANGES[n]) & set(CHANGES[first])]
    return (first, others[int(rng.integers(len(others)))])


def _eye_at(animal: Animal, spot: Spot, side: int, scale: float) -> Placement:
    build = BUILDS[animal.species]
    return Placement(side, spot[0] - scale * side * build.eye_x, spot[1] - scale * build.eye_y, 0.0, scale)


def _free_spot(rng: np.random.Generator, taken: list[tuple[Spot, float]], reach: Spot = (0.8, 0.7)) -> Spot:
    """A place on the face at least so far from the taken ones; the farthest tried if there is none."""
    tries = rng.uniform((-reach[0], -reach[1]), reach, (60, 2))
    room = [min(float(np.hypot(*(spot - where))) - far for where, far in taken) for spot in tries]
    best = next((k for k, spare in enumerate(room) if spare > 0), int(np.argmax(room)))
    return float(tries[best, 0]), float(tries[best, 1])


def _eye_spots(animal: Animal) -> list[Spot]:
    build = BUILDS[animal.species]
    return [(side * build.eye_x, build.eye_y) for side in (-1, 1)]


def _more_eyes(count: int) -> Callable[[Animal, np.random.Generator], Copies]:
    def draw(animal: Animal, rng: np.random.Generator) -> Copies:
        radius = BUILDS[animal.species].eye_r
        eyes, copies = _eye_spots(animal), list(PAIR)
        for _ in range(count):
            taken = [(spot, 2.0 * radius) for spot in eyes] + [(MOUTH, radius + 0.25)]
            eyes.append(_free_spot(rng, taken))
            copies.append(_eye_at(animal, eyes[-1], 1, float(rng.uniform(0.7, 1.0))))
        return {"eye": tuple(copies)}

    return draw


def _one_of_a_pair(kind: str) -> Callable[[Animal, np.random.Generator], Copies]:
    return lambda _, rng: {kind: (PAIR[int(rng.integers(2))],)}


def _none(kind: str) -> Callable[[Animal, np.random.Generator], Copies]:
    return lambda _animal, _rng: {kind: ()}


def _second_mouth(animal: Animal, rng: np.random.Generator) -> Copies:
    wide = 0.95 if animal.species == "frog" else 0.6
    taken = [(spot, BUILDS[animal.species].eye_r + 0.25) for spot in _eye_spots(animal)] + [(MOUTH, wide)]
    x, y = _free_spot(rng, taken, (0.85, 0.85))
    scale = float(rng.uniform(0.55, 0.75))
    return {"mouth": (*LONE, Placement(1, x, y - scale * MOUTH[1], float(rng.uniform(-15, 15)), scale))}


def _third_ear(animal: Animal, rng: np.random.Generator) -> Copies:
    side = 1 if rng.random() < 0.5 else -1
    outward = -1 if animal.species == "dog" else 1  # hanging ears leave room above them
    return {"ear": (Placement(side, turn=outward * side * float(rng.uniform(60, 90))), *PAIR)}


def _second_tail(_animal: Animal, rng: np.random.Generator) -> Copies:
    if rng.random() < 0.6:
        return {"tail": (*LONE, Placement(-1))}
    return {"tail": (*LONE, Placement(1, turn=float(rng.uniform(35, 55))))}


def _second_head(_animal: Animal, rng: np.random.Generator) -> Copies:
    side = 1 if rng.random() < 0.5 else -1
    match int(rng.integers(3)):
        case 0:  # beside the first
            scale = float(rng.uniform(0.55, 0.85))
            copy = Placement(1, side * float(rng.uniform(0.26, 0.36)), float(rng.uniform(0.0, 0.25)), scale=scale)
        case 1:  # on top of it
            copy = Placement(1, side * float(rng.uniform(0, 0.08)), -float(rng.uniform(0.36, 0.46)), scale=0.8)
        case _:  # on the belly
            copy = Placement(1, side * float(rng.uniform(0, 0.06)), float(rng.uniform(0.34, 0.42)), scale=0.5)
    return {"head": (*LONE, replace(copy, turn=float(rng.uniform(-15, 15))))}


def _melted(animal: Animal, rng: np.random.Generator) -> Copies:
    """Every part of the face out of its place."""
    radius = BUILDS[animal.species].eye_r
    first = _free_spot(rng, [(spot, 0.35) for spot in _eye_spots(animal)])
    second = _free_spot(rng, [(spot, 0.35) for spot in _eye_spots(animal)] + [(first, 2.2 * radius)])
    x, y = _free_spot(rng, [(first, radius + 0.35), (second, radius + 0.35), (MOUTH, 0.35)])
    scale = float(rng.uniform(0.6, 0.8))
    eyes = tuple(_eye_at(animal, spot, side, float(rng.uniform(0.6, 1.0))) for spot, side in ((first, -1), (second, 1)))
    return {
        "eye": eyes,
        "mouth": (Placement(1, x, y - scale * MOUTH[1], float(rng.uniform(-40, 40)), scale),),
        "ear": tuple(
            replace(ear, turn=float(rng.uniform(-25, 25)), scale=float(rng.uniform(0.75, 1.1))) for ear in PAIR
        ),
    }


_DRAWN: Mapping[str, Callable[[Animal, np.random.Generator], Copies]] = {
    "third eye": _more_eyes(1),
    "fourth eye": _more_eyes(2),
    "one eye": _one_of_a_pair("eye"),
    "no eyes": _none("eye"),
    "second mouth": _second_mouth,
    "no mouth": _none("mouth"),
    "third ear": _third_ear,
    "one ear": _one_of_a_pair("ear"),
    "no ears": _none("ear"),
    "second tail": _second_tail,
    "no tail": _none("tail"),
    "second head": _second_head,
    "melted": _melted,
}
