"""The renderer: the same scene is the same picture, at any size, and its parts are where it says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from training.critters.data import details
from training.critters.renderer import render, render_with_parts
from training.critters.scene import (
    COLOURS,
    PATTERNS,
    PLACES,
    SPECIES,
    TIMES,
    Animal,
    PlacedAnimal,
    Scene,
    sample_animal,
    sample_scene,
)

SEEDS = range(24)


def lone(animal: Animal, height: float = 0.65, place: str = "meadow", time: str = "day") -> Scene:
    return Scene((PlacedAnimal(animal, 0.5, 0.9, height),), place, time, background_seed=3)


def drawn_rows_and_columns(scene: Scene, size: int = 256) -> tuple[np.ndarray, np.ndarray]:
    """Where the animal changed the picture strongly (its soft shadow and thin whiskers aside)."""
    empty = render(replace(scene, animals=()), size, size).astype(int)
    changed = np.abs(render(scene, size, size).astype(int) - empty).max(2) > 24
    return np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))


def test_a_seed_always_gives_the_same_scene_and_another_seed_another() -> None:
    assert [sample_scene(s) for s in SEEDS] == [sample_scene(s) for s in SEEDS]
    assert len({sample_scene(s) for s in SEEDS}) == len(SEEDS)


def test_what_no_caption_tells_hardly_varies_in_a_scene() -> None:
    animals = [sample_scene(seed).animals[0].animal for seed in range(60)]
    assert {(animal.facing, animal.gaze, animal.eye_scale) for animal in animals} == {(1, (0.0, 0.0), 1.0)}
    assert all(0.3 <= animal.turn <= 0.7 and abs(animal.tilt) <= 2.8 for animal in animals)
    assert len({animal.turn for animal in animals}) == len(animals)
    for told in ("species", "colour", "pattern", "accessory", "standing"):
        assert len({getattr(animal, told) for animal in animals}) > 1


def test_details_are_where_the_parts_were_drawn() -> None:
    cells = 32
    near = details(range(40, 48), world="flat", workers=1)
    assert near.shape == (8, cells, cells)
    for row, seed in zip(near, range(40, 48), strict=True):
        parts = [part for part in render_with_parts(sample_scene(seed, "flat"), 256, 256)[1] if part.kind != "animal"]
        assert all(row[int(part.y * cells), int(part.x * cells)] for part in parts)
        assert 0.03 < row.mean() < 0.35
        assert not row[:3].any()  # the sky


def test_a_scene_always_gives_the_same_bytes() -> None:
    for seed in SEEDS:
        scene = sample_scene(seed)
        assert np.array_equal(render(scene, 128, 128), render(scene, 128, 128))


@pytest.mark.parametrize(("width", "height"), [(256, 256), (512, 256), (256, 512), (131, 77), (8, 8)])
def test_a_picture_has_the_size_asked_for(width: int, height: int) -> None:
    picture = render(sample_scene(5), width, height)
    assert picture.shape == (height, width, 3)
    assert picture.dtype == np.uint8


def test_the_same_scene_looks_the_same_at_twice_the_size() -> None:
    for seed in SEEDS:
        scene = sample_scene(seed, "flat")
        small = render(scene, 256, 256).astype(float)
        large = Image.fromarray(render(scene, 512, 512)).resize((256, 256), Image.Resampling.BOX)
        other = render(sample_scene(seed + 1000, "flat"), 256, 256).astype(float)
        difference = np.abs(small - np.asarray(large)).mean()
        assert difference < 1.5
        assert difference < np.abs(small - other).mean() / 10


def test_a_larger_render_of_fur_has_detail_that_upscaling_lacks() -> None:
    scene = lone(Animal("bear", "blue", pattern="fluffy"))
    large = render(scene, 1024, 1024).astype(float)
    small = Image.fromarray(render(scene, 256, 256)).resize((1024, 1024), Image.Resampling.BICUBIC)
    sharpness = [np.abs(np.diff(p, axis=1)).max(2).astype(float) for p in (large, np.asarray(small, float))]
    assert (sharpness[0] > 60).sum() > 1.5 * (sharpness[1] > 60).sum()


@pytest.mark.parametrize(("width", "height"), [(512, 256), (256, 512), (640, 256)])
def test_a_wider_or_taller_picture_only_adds_background_around_the_same_animal(width: int, height: int) -> None:
    scene = sample_scene(7)
    _, square = render_with_parts(scene, 256, 256)
    _, parts = render_with_parts(scene, width, height)
    for one, other in zip(square, parts, strict=True):
        assert other.kind == one.kind
        assert other.x * width - width / 2 == pytest.approx(one.x * 256 - 128, abs=0.01)
        assert other.y * height - height / 2 == pytest.approx(one.y * 256 - 128, abs=0.01)
        assert other.radius * height == pytest.approx(one.radius * 256, abs=0.01)


def test_a_white_animal_has_an_outline_that_stands_out_from_snow() -> None:
    scene = lone(Animal("bear", "white"), place="snow")
    picture = render(scene, 256, 256).astype(int)
    row = picture[int(0.9 * 256 - 0.06 * 256)].max(1)
    assert row.min() < 170
    assert np.median(row) > 220


def test_flat_scenes_hold_one_animal_of_about_half_the_picture_wholly_inside() -> None:
    for seed in range(60):
        scene = sample_scene(seed, "flat")
        (placed,) = scene.animals
        assert 0.45 <= placed.height <= 0.75
        assert 0.4 <= placed.x <= 0.6
        bare = replace(placed.animal, accessory="none")
        rows, columns = drawn_rows_and_columns(replace(scene, animals=(replace(placed, animal=bare),)), 128)
        assert 0.45 <= (rows[-1] - rows[0] + 1) / 128 <= 0.78
        rows, columns = drawn_rows_and_columns(scene, 128)
        assert rows[0] > 0
        assert rows[-1] < 127
        assert columns[0] > 0
        assert columns[-1] < 127


@pytest.mark.parametrize("species", SPECIES)
def test_every_species_has_one_face_and_its_parts_lie_in_the_picture(species: str) -> None:
    for facing in (-1, 1):
        _, parts = render_with_parts(lone(Animal(species, "red", facing=facing)), 256, 256)
        kinds = [part.kind for part in parts]
        assert kinds.count("animal") == 1
        assert kinds.count("eye") == 2
        assert kinds.count("mouth") == 1
        assert kinds.count("ear") == (0 if species in ("penguin", "frog") else 2)
        assert kinds.count("tail") == (0 if species == "frog" else 1)
        for part in parts:
            assert 0 < part.x < 1
            assert 0 < part.y < 1
            assert 0 < part.radius < 0.6


@pytest.mark.parametrize("species", SPECIES)
def test_eyes_are_dark_in_white_where_the_parts_say(species: str) -> None:
    picture, parts = render_with_parts(lone(Animal(species, "green")), 256, 256)
    for eye in (part for part in parts if part.kind == "eye"):
        x, y, r = eye.x * 256, eye.y * 256, eye.radius * 256
        patch = picture[int(y - r) : int(y + r) + 1, int(x - r) : int(x + r) + 1].astype(int)
        assert patch.min(2).max() > 240
        assert patch.max(2).min() < 60


@pytest.mark.parametrize("time", TIMES)
@pytest.mark.parametrize("colour", COLOURS)
def test_a_colour_stays_nearest_to_its_own_name_at_any_time(colour: str, time: str) -> None:
    def forehead(name: str, when: str) -> np.ndarray:
        animal = Animal("bear", name)
        picture, parts = render_with_parts(lone(animal, time=when), 128, 128)
        left, right = [part for part in parts if part.kind == "eye"]
        x, y = int((left.x + right.x) * 64), int((left.y - 2 * left.radius) * 128)
        return np.asarray(picture[y - 1 : y + 2, x - 1 : x + 2].reshape(-1, 3).mean(0))

    seen = forehead(colour, time)
    by_day = {name: forehead(name, "day") for name in COLOURS}
    assert min(by_day, key=lambda name: float(np.linalg.norm(by_day[name] - seen))) == colour


@pytest.mark.parametrize("pattern", PATTERNS[1:])
def test_a_pattern_changes_the_picture(pattern: str) -> None:
    plain = render(lone(Animal("cat", "orange")), 128, 128).astype(int)
    patterned = render(lone(Animal("cat", "orange", pattern=pattern)), 128, 128).astype(int)
    assert (np.abs(plain - patterned).max(2) > 20).mean() > 0.01


def test_places_and_times_all_differ() -> None:
    pictures = {
        (place, time): render(Scene((), place, time, 1), 64, 64).astype(float) for place in PLACES for time in TIMES
    }
    keys = list(pictures)
    for i, first in enumerate(keys):
        for second in keys[i + 1 :]:
            assert np.abs(pictures[first] - pictures[second]).mean() > 3, (first, second)


@pytest.mark.parametrize("count", range(10))
def test_crowds_of_any_count_are_drawn_with_their_parts(count: int) -> None:
    rng = np.random.default_rng(count)
    animals = tuple(
        PlacedAnimal(sample_animal(rng), 0.17 + 0.33 * (k % 3), 0.3 + 0.33 * (k // 3), float(rng.uniform(0.125, 0.25)))
        for k in range(count)
    )
    _, parts = render_with_parts(Scene(animals, "meadow", "day", 4), 128, 128)
    assert {part.animal for part in parts} == set(range(count))
    for index, placed in enumerate(animals):
        (whole,) = (part for part in parts if part.animal == index and part.kind == "animal")
        assert whole.x == pytest.approx(placed.x, abs=1e-3)
        assert whole.y == pytest.approx(placed.ground_y - placed.height / 2, abs=1e-3)
        assert whole.radius == pytest.approx(placed.height / 2, abs=1e-3)


def test_unknown_words_are_refused() -> None:
    with pytest.raises(ValueError, match="dragon"):
        Animal("dragon", "red")
    with pytest.raises(ValueError, match="moon"):
        Scene((), "moon", "day")
