"""The observer's pictures and labels: what is marked can be seen, and a fault changes what it says it changes."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scalecrafter.evaluation.observer_peaks import ANIMAL_REACH, PART_REACH, peaks
from training.critters.faces import EARLESS
from training.critters.observer_data import MARKS, observer_set, rows_of
from training.critters.observer_faults import CHANGES, faults_of, malform, sample_faults
from training.critters.observer_parts import DOUBTFUL, KINDS, SeenPart, seen_parts
from training.critters.observer_scenes import HIDDEN, SEEN, SIDE, Sample, crowd, draw, sample_of
from training.critters.observer_targets import (
    CELLS,
    FINE_MOUTH,
    MOUTH,
    SEEN_MOUTH,
    SMALL,
    counts,
    heat_targets,
    mirrored,
)
from training.critters.renderer import render, render_with_parts
from training.critters.scene import SPECIES, Animal, PlacedAnimal, Scene, sample_animal, sample_scene


def lone(animal: Animal, height: float = 0.65, x: float = 0.5) -> Scene:
    """Parts are in the same places in both worlds, and the flat one is drawn sooner."""
    return Scene((PlacedAnimal(animal, x, 0.9, height),), "meadow", "day", 3, "flat")


def marked(sample: Sample) -> list[SeenPart]:
    """What `draw` says can be seen, without the drawing."""
    return seen_parts(sample.scene, sample.width, sample.height, sample.window)


def drawn(scene: Scene) -> Counter[str]:
    return Counter(part.kind for part in render_with_parts(scene, SIDE, SIDE)[1])


@pytest.mark.parametrize("fault", CHANGES)
def test_a_fault_changes_exactly_the_parts_that_it_names(fault: str) -> None:
    rng = np.random.default_rng(5)
    for species in SPECIES:
        if fault not in faults_of(species):
            continue
        whole = replace(sample_animal(rng), species=species)
        expected = drawn(lone(whole))
        for kind, change in CHANGES[fault].items():
            expected[kind] += change if kind != "ear" or species not in EARLESS else 0
        assert drawn(lone(malform(whole, (fault,), rng))) == +expected


def test_every_species_can_be_malformed_and_none_in_parts_that_it_lacks() -> None:
    for species in SPECIES:
        assert len(faults_of(species)) >= 8
    assert "third ear" not in faults_of("penguin")
    assert "no tail" not in faults_of("frog")
    with pytest.raises(ValueError, match=r"frog cannot have the fault 'second tail'; it can have third eye"):
        malform(Animal("frog", "green"), ("second tail",), np.random.default_rng(0))
    with pytest.raises(ValueError, match="same part"):
        malform(Animal("cat", "red"), ("no ears", "one ear"), np.random.default_rng(0))


def test_faults_drawn_by_lot_can_always_be_drawn_and_all_come_up() -> None:
    rng = np.random.default_rng(1)
    seen: set[str] = set()
    for k in range(400):
        animal = replace(sample_animal(rng), species=SPECIES[k % len(SPECIES)])
        faults = sample_faults(animal.species, rng)
        malform(animal, faults, rng)
        seen |= set(faults)
    assert seen == set(CHANGES)


def test_a_melted_animal_has_all_parts_but_another_face() -> None:
    whole = Animal("cat", "orange")
    melted = malform(whole, ("melted",), np.random.default_rng(2))
    assert drawn(lone(whole)) == drawn(lone(melted))
    places = [
        [(p.x, p.y) for p in render_with_parts(lone(a), SIDE, SIDE)[1] if p.kind in ("eye", "mouth")]
        for a in (whole, melted)
    ]
    assert min(np.hypot(a - c, b - d) for (a, b), (c, d) in zip(*places, strict=True)) > 0.03


def test_all_parts_of_a_lone_animal_are_seen_where_they_are_drawn() -> None:
    for seed in range(40):
        scene = sample_scene(seed)
        _, parts = render_with_parts(replace(scene, world="flat"), SIDE, SIDE)  # the same parts, drawn sooner
        seen = seen_parts(scene, SIDE, SIDE)
        assert {p.kind for p in seen} | {"tail"} == {p.kind for p in parts} | {"tail"}  # a bird's tail may hide
        for part in parts:
            if part.kind in ("animal", "eye", "mouth"):
                near = [
                    s for s in seen if s.kind == part.kind and np.hypot(s.x - part.x * SIDE, s.y - part.y * SIDE) < 1
                ]
                assert len(near) == 1
                assert near[0].seen > SEEN


def test_what_another_animal_hides_is_not_seen() -> None:
    cat, bear = Animal("cat", "orange"), Animal("bear", "blue")
    behind, before = PlacedAnimal(cat, 0.5, 0.8, 0.3), PlacedAnimal(bear, 0.5, 0.95, 0.9)
    both = seen_parts(Scene((behind, before), "meadow", "day"), SIDE, SIDE)
    assert {part.animal for part in both if part.seen > HIDDEN} == {1}
    reversed_order = seen_parts(Scene((before, behind), "meadow", "day"), SIDE, SIDE)
    assert Counter(p.kind for p in reversed_order if p.animal == 1 and p.seen > SEEN) == drawn(lone(cat))


def test_what_the_edge_cuts_off_is_not_seen() -> None:
    scene = lone(Animal("cat", "orange"), x=0.0)
    seen = seen_parts(scene, SIDE, SIDE)
    (whole,) = (part for part in seen if part.kind == "animal")
    assert 0.3 < whole.seen < 0.7
    assert sum(part.kind == "eye" and part.seen > SEEN for part in seen) == 1


def test_glasses_do_not_hide_eyes_and_a_window_moves_the_marks() -> None:
    scene = lone(replace(Animal("owl", "brown"), accessory="glasses"))
    wide = [part for part in seen_parts(scene, 512, SIDE) if part.kind == "eye"]
    cut = [part for part in seen_parts(scene, 512, SIDE, (100, 0, SIDE, SIDE)) if part.kind == "eye"]
    assert [part.seen > 0.7 for part in wide] == [True, True]
    for one, other in zip(wide, cut, strict=True):
        assert (other.x, other.y) == pytest.approx((one.x - 100, one.y))


@pytest.mark.parametrize(("world", "largest"), [("flat", (0.9, 1.0)), ("detailed", (2.2, 2.4))])
def test_samples_hold_what_they_should(world: str, largest: tuple[float, float]) -> None:
    samples = [sample_of(seed, world) for seed in range(400)]
    assert {s.scene.world for s in samples} == {world}
    sizes = Counter(len(sample.scene.animals) for sample in samples)
    assert set(sizes) == set(range(10))
    whole = [s for s in samples if s.lone and not s.faults]
    faulty = [s for s in samples if s.faults]
    assert len(whole) > 100
    assert len(faulty) > 60
    assert all(len(s.scene.animals) == 1 for s in faulty)
    heights = [placed.height for s in samples for placed in s.scene.animals]
    assert 0.12 <= min(heights) < 0.15
    assert largest[0] < max(heights) <= largest[1]
    assert {(s.width, s.height) for s in samples} >= {(256, 256), (512, 256), (256, 512)}
    assert samples == [sample_of(seed, world) for seed in range(400)]


def test_detailed_samples_show_animals_from_far_away_to_close_ups_each_marked_in_the_picture() -> None:
    heights, cut = [], 0
    for seed in range(90):
        sample = sample_of(seed, "detailed")
        if sample.lone is None or sample.faults:
            continue
        heights.append(sample.scene.animals[0].height)
        (animal,) = (part for part in marked(sample) if part.kind == "animal")
        assert animal.seen > SEEN
        assert 0 <= animal.x < SIDE
        assert 0 <= animal.y < SIDE
        cut += animal.seen < 0.8
    assert min(heights) < 0.3
    assert max(heights) > 1.8
    assert 4 < cut < 0.6 * len(heights)
    assert sample_of(5) == sample_of(5, "detailed") != sample_of(5, "flat")


@pytest.mark.parametrize("count", range(10))
def test_every_animal_of_a_crowd_can_be_seen(count: int) -> None:
    for seed in range(6):
        sample = crowd(seed, count, np.random.default_rng((seed, count)))
        animals = [part for part in marked(sample) if part.kind == "animal" and part.seen != DOUBTFUL]
        assert len(animals) == count
        assert all(part.seen > SEEN for part in animals)
        assert all(0 <= part.x < SIDE and 0 <= part.y < SIDE for part in animals)


@pytest.mark.parametrize(("world", "count"), [("flat", 60), ("detailed", 20)])
def test_scraps_leave_the_animals_alone(world: str, count: int) -> None:
    touched = 0
    for seed in range(count):
        sample = sample_of(seed, world)
        picture, parts = draw(sample)
        assert picture.shape == (SIDE, SIDE, 3)
        assert parts == marked(sample)
        left, top, wide, high = sample.window
        plain = render(sample.scene, sample.width, sample.height)[top : top + high, left : left + wide]
        changed = np.abs(picture.astype(int) - plain).max(2) > 0
        touched += bool(changed.any())
        for part in parts:
            if part.kind == "animal" and 0 <= part.x < SIDE and 0 <= part.y < SIDE:
                assert not changed[int(part.y), int(part.x)]
    assert 0.14 * count < touched < 0.58 * count


def test_perfect_heat_maps_have_the_right_counts_of_every_kind() -> None:
    judged = 0
    for seed in range(150):
        marks = rows_of(marked(sample_of(seed)))
        heat, _ = heat_targets(marks)
        for k, (kind, (least, most)) in enumerate(zip(KINDS, counts(marks), strict=True)):
            found = len(peaks(heat[k], ANIMAL_REACH if kind == "animal" else PART_REACH, 0.5))
            if least >= 0:
                judged += 1
                assert least <= found <= most, (seed, kind)
    assert judged > 400


def test_every_judged_part_has_its_peak_and_where_it_is_judged() -> None:
    checked: Counter[str] = Counter()
    for seed in range(60):
        rows = rows_of(marked(sample_of(seed)))
        heat, judged = heat_targets(rows)
        for kind, x, y, radius, seen, height in rows[~np.isnan(rows[:, 0])]:
            if kind == MOUTH and (radius < FINE_MOUTH or seen < SEEN_MOUTH):
                continue
            if seen >= SEEN and (kind == 0 or height >= SMALL) and 0 <= x < SIDE and 0 <= y < SIDE:
                assert heat[int(kind), int(y / 4), int(x / 4)] == 1
                assert judged[int(kind), int(y / 4), int(x / 4)] == 1
                checked[KINDS[int(kind)]] += 1
    assert set(checked) == set(KINDS)
    assert checked["mouth"] > 50


def test_parts_of_small_animals_and_half_hidden_ones_are_not_judged() -> None:
    def marks(height: float, seen: float) -> np.ndarray:
        radius = height / 2
        return rows_of([SeenPart(0, "animal", 128, 128, radius, 1), SeenPart(0, "eye", 128, 120, 8, seen)])

    small, dim, plain, hidden = marks(40, 1), marks(120, 0.12), marks(120, 1), marks(120, 0.02)
    eye = KINDS.index("eye")
    for rows in (small, dim):
        heat, judged = heat_targets(rows)
        assert heat[eye].max() == 0
        assert judged[eye, 30, 32] == 0
    assert counts(small)[eye].tolist() == [-1, 10_000]
    assert counts(dim)[eye].tolist() == [0, 1]
    assert counts(plain)[eye].tolist() == [1, 1]
    assert counts(hidden)[eye].tolist() == [0, 0]
    assert heat_targets(plain)[0][eye].max() == 1


def test_a_mouth_of_which_hardly_anything_shows_is_judged_neither_way() -> None:
    def marks(radius: float, seen: float, kind: str = "mouth") -> np.ndarray:
        return rows_of([SeenPart(0, "animal", 128, 128, 60, 1), SeenPart(0, kind, 128, 140, radius, seen)])

    plain, fine, covered, hidden = marks(8, 1), marks(4.5, 1), marks(8, 0.4), marks(4.5, 0.02)
    for rows in (fine, covered):
        heat, judged = heat_targets(rows)
        assert heat[MOUTH].max() == 0
        assert judged[MOUTH, 35, 32] == 0
        assert judged[MOUTH, 20, 32] == 1  # a mouth somewhere else is still wrong
        assert judged[[k for k in range(len(KINDS)) if k != MOUTH]].all()
        assert counts(rows)[MOUTH].tolist() == [0, 1]
    assert counts(plain)[MOUTH].tolist() == [1, 1]
    assert heat_targets(plain)[0][MOUTH, 35, 32] == heat_targets(plain)[1][MOUTH, 35, 32] == 1
    assert counts(hidden)[MOUTH].tolist() == [0, 0]  # nobody sees it: to find one is wrong
    assert heat_targets(hidden)[1].all()
    eye = KINDS.index("eye")  # which is no thin line
    for rows in (marks(4.5, 1, "eye"), marks(8, 0.4, "eye")):
        assert counts(rows)[eye].tolist() == [1, 1]
        assert heat_targets(rows)[0][eye, 35, 32] == 1
    both = marks(8, 1)
    both[2] = fine[1]
    both[2, 2] = 100
    assert counts(both)[MOUTH].tolist() == [1, 2]


def test_two_heads_are_one_animal_or_two_but_four_eyes() -> None:
    for seed in range(10):
        rng = np.random.default_rng(seed)
        animal = malform(replace(sample_animal(rng), species="cat"), ("second head",), rng)
        parts = seen_parts(lone(animal), SIDE, SIDE)
        rows = rows_of(parts)
        assert counts(rows)[KINDS.index("animal")].tolist() == [1, 2]
        assert counts(rows)[KINDS.index("eye"), 0] >= 3
        assert len(set(rows[: len(parts), 5].tolist())) == 1
        body, head = (part for part in parts if part.kind == "animal")
        heat, judged = heat_targets(rows)
        assert heat[0, int(body.y / 4), int(body.x / 4)] == 1
        assert (heat[0] == 1).sum() == 1
        assert judged[0, int(head.y / 4), int(head.x / 4)] == 0
        eyes = [part for part in parts if part.kind == "eye"]
        assert min(np.hypot(eye.x - head.x, eye.y - head.y) for eye in eyes) < head.radius


def test_mirrored_marks_give_mirrored_targets() -> None:
    rows = rows_of(marked(sample_of(3)))
    heat, judged = heat_targets(rows)
    other, also = heat_targets(mirrored(rows))
    np.testing.assert_allclose(np.round(other[:, :, ::-1], 3), np.round(heat, 3), atol=1.01 * (heat == 1).max())
    assert other.shape == (len(KINDS), CELLS, CELLS)
    assert np.mean(np.abs(other[:, :, ::-1] - heat)) < 1e-3
    assert np.mean(also[:, :, ::-1] != judged) < 0.01


def test_a_set_whose_making_was_stopped_is_finished_and_another_is_refused(tmp_path: Path) -> None:
    whole = observer_set(tmp_path / "whole", 60, report=lambda _: None, world="flat")
    assert whole.pictures.shape == (60, SIDE, SIDE, 3)
    assert whole.marks.shape == (60, MARKS, 6)

    observer_set(tmp_path / "stopped", 60, report=lambda _: None, world="flat")
    progress = tmp_path / "stopped" / "progress.json"
    progress.write_text(progress.read_text().replace('"done": 60', '"done": 50'))
    array = np.load(tmp_path / "stopped" / "pictures.npy", mmap_mode="r+")
    array[50:] = 0
    array.flush()
    again = observer_set(tmp_path / "stopped", 60, report=lambda _: None, world="flat")
    np.testing.assert_array_equal(again.pictures, whole.pictures)
    np.testing.assert_array_equal(again.marks, whole.marks)
    assert len(observer_set(tmp_path / "whole", 20, world="flat").samples) == 20
    with pytest.raises(ValueError, match="made for 60 pictures, and 61 are wanted"):
        observer_set(tmp_path / "whole", 61, world="flat")
    with pytest.raises(ValueError, match="holds seeds from 0, not 7"):
        observer_set(tmp_path / "whole", 60, 7, world="flat")
    with pytest.raises(ValueError, match="holds the flat world, not the detailed one"):
        observer_set(tmp_path / "whole", 60, world="detailed")


def test_attributes_are_those_of_the_only_animal(tmp_path: Path) -> None:
    data = observer_set(tmp_path, 60, report=lambda _: None, world="flat")
    for sample, row in zip(data.samples, data.attributes(), strict=True):
        assert isinstance(sample, Sample)
        if sample.lone is None:
            assert row[:4].tolist() == [-1] * 4
        else:
            assert SPECIES[row[0]] == sample.lone.species
        assert row[4] >= 0
