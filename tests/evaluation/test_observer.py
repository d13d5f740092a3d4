"""The observer's public side: sizes, what it makes of heat maps, and what it says when something is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from scalecrafter.errors import ModelError
from scalecrafter.evaluation.observer import CARD, WEIGHTS, Observer, load_observer
from scalecrafter.evaluation.observer_card import Anatomy, ObserverCard, mouth_from_eyes
from scalecrafter.evaluation.observer_network import NetworkSettings, ObserverNetwork
from scalecrafter.evaluation.observer_peaks import Mark, marks_of, peaks

KINDS = ("animal", "eye", "ear", "mouth", "tail")
WHOLE = {"eye": (2, 2), "ear": (2, 2), "mouth": (1, 1), "tail": (0, 1)}
WIDTHS = (8, 8, 8, 8)
VOCABULARY = {
    "species": ("cat", "frog"),
    "colour": ("red", "green", "blue"),
    "accessory": ("none", "hat"),
    "place": ("snow", "beach"),
}


def card() -> ObserverCard:
    def anatomy(parts: dict[str, tuple[int, int]]) -> Anatomy:
        return Anatomy(parts=parts, mouth_along=(0.0, 0.3), mouth_across=(0.4, 1.2))

    frog = WHOLE | {"ear": (0, 0), "tail": (0, 0)}
    return ObserverCard(
        kinds=KINDS,
        vocabulary=VOCABULARY,
        widths=WIDTHS,
        features=8,
        thresholds=dict.fromkeys(KINDS, 0.5),
        anatomy={"cat": anatomy(WHOLE), "frog": anatomy(frog)},
    )


def observer() -> Observer:
    torch.manual_seed(0)
    return Observer(ObserverNetwork(card().network_settings()).fuse(), card())


def write(folder: Path) -> Path:
    torch.manual_seed(0)
    network = ObserverNetwork(card().network_settings()).fuse()
    folder.mkdir()
    save_file({name: value.half() for name, value in network.state_dict().items()}, folder / WEIGHTS)
    (folder / CARD).write_text(card().model_dump_json())
    return folder


def bumps(places: list[tuple[int, int]], rows: int = 64, columns: int = 64) -> np.ndarray:
    y, x = np.mgrid[0:rows, 0:columns]
    out = np.zeros((rows, columns), np.float32)
    for column, row in places:
        out = np.maximum(out, np.exp(-((x - column) ** 2 + (y - row) ** 2) / 4).astype(np.float32))
    return out


def face(
    eyes: tuple[tuple[float, float], ...] = ((0.4, 0.4), (0.6, 0.4)), mouth: tuple[float, float] = (0.5, 0.56)
) -> tuple[Mark, ...]:
    animal = Mark("animal", 0.5, 0.6, 0.9)
    ears = (Mark("ear", 0.35, 0.2, 0.9), Mark("ear", 0.65, 0.2, 0.9))
    return (animal, *(Mark("eye", x, y, 0.9) for x, y in eyes), *ears, Mark("mouth", *mouth, 0.9))


@pytest.mark.parametrize("places", [[], [(5, 9)], [(0, 0), (63, 63), (30, 12)], [(10, 10), (14, 10), (10, 15)]])
def test_peaks_are_counted_and_placed(places: list[tuple[int, int]]) -> None:
    found = peaks(bumps(places), 1, 0.5)
    assert len(found) == len(places)
    for column, row in places:
        assert min(np.hypot(x * 64 - 0.5 - column, y * 64 - 0.5 - row) for x, y, _ in found) < 0.75


def test_a_plateau_and_a_low_hill_are_not_several_peaks() -> None:
    flat = np.zeros((16, 16), np.float32)
    flat[4:6, 4:6] = 0.8
    flat[12, 12] = 0.3
    assert len(peaks(flat, 1, 0.5)) == 1
    assert len(peaks(flat, 1, 0.2)) == 2


def test_places_are_fractions_of_a_wide_map() -> None:
    ((x, y, score),) = peaks(bumps([(96, 16)], 64, 128), 2, 0.5)
    assert (x, y) == pytest.approx((96.5 / 128, 16.5 / 64))
    assert score == 1


def test_each_kind_has_its_own_floor() -> None:
    heat = np.stack([bumps([(20, 20)])] * 5) * np.array([1, 0.6, 0.6, 0.6, 0.6], np.float32)[:, None, None]
    floors = dict.fromkeys(KINDS, 0.5) | {"ear": 0.7}
    assert [mark.kind for mark in marks_of(heat, KINDS, floors)] == ["animal", "eye", "mouth", "tail"]


def test_a_whole_face_is_well_formed_however_it_is_turned_and_scaled() -> None:
    assert card().well_formed("cat", face())
    for angle in (-0.4, 0.4):
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        turned = tuple(Mark(m.kind, *(turn @ (m.x - 0.5, m.y - 0.5) * 0.5 + 0.5), m.score) for m in face())
        assert card().well_formed("cat", turned)
        assert mouth_from_eyes(turned) == pytest.approx(mouth_from_eyes(face()))


def test_a_wide_picture_does_not_bend_the_face() -> None:
    squeezed = tuple(Mark(m.kind, 0.5 + (m.x - 0.5) / 2, m.y, m.score) for m in face())
    assert mouth_from_eyes(squeezed, aspect=2.0) == pytest.approx(mouth_from_eyes(face()))


@pytest.mark.parametrize(
    "marks",
    [
        face()[1:],
        (*face(), Mark("animal", 0.2, 0.2, 0.9)),
        (*face(), Mark("eye", 0.5, 0.3, 0.9)),
        face(eyes=((0.4, 0.4),)),
        face()[:-1],
        (*face(), Mark("mouth", 0.5, 0.7, 0.9)),
        (*face(), Mark("tail", 0.2, 0.8, 0.9), Mark("tail", 0.8, 0.8, 0.9)),
        tuple(mark for mark in face() if mark.kind != "ear"),
        face(mouth=(0.7, 0.5)),
        face(mouth=(0.5, 0.3)),
        face(eyes=((0.4, 0.4), (0.6, 0.6))),
    ],
)
def test_what_is_not_one_whole_animal_is_not_well_formed(marks: tuple[Mark, ...]) -> None:
    assert not card().well_formed("cat", marks)


def test_a_species_without_ears_must_not_have_any() -> None:
    assert not card().well_formed("frog", face())
    assert card().well_formed("frog", tuple(mark for mark in face() if mark.kind != "ear"))


def test_pictures_of_any_size_and_kind_are_observed_in_their_order() -> None:
    eyes = observer()
    rng = np.random.default_rng(0)
    sizes = [(256, 256), (40, 24), (512, 300), (300, 512), (256, 256), (1024, 256), (17, 16)]
    arrays = [rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for width, height in sizes]
    together = eyes.observe(arrays)
    assert len(together) == len(sizes)
    for array, seen in zip(arrays, together, strict=True):
        (alone,) = eyes.observe([Image.fromarray(array)])
        np.testing.assert_allclose(seen.features, alone.features, rtol=1e-3, atol=1e-4)
        assert (seen.animals, seen.species) == (alone.animals, alone.species)
        assert seen.features.dtype == np.float32
        assert seen.features.shape == (16,)
        assert seen.species in VOCABULARY["species"]
        assert seen.colour in VOCABULARY["colour"]
        assert set(seen.parts) == {"eye", "ear", "mouth", "tail"}
        assert sum(mark.kind == "animal" for mark in seen.positions) == seen.animals
        assert seen.one_object == (seen.animals == 1)
        assert all(0 <= mark.x <= 1 and 0 <= mark.y <= 1 for mark in seen.positions)
    assert eyes.observe([]) == []


@pytest.mark.parametrize(("size", "shape"), [((256, 256), (64, 64)), ((1024, 512), (64, 128)), ((100, 300), (192, 64))])
def test_heat_maps_have_the_pictures_shape(size: tuple[int, int], shape: tuple[int, int]) -> None:
    maps = observer().heat_maps(Image.new("RGB", size))
    assert tuple(maps) == KINDS
    assert {heat.shape for heat in maps.values()} == {shape}
    assert all(heat.min() >= 0 and heat.max() <= 1 for heat in maps.values())


def test_shrinking_is_antialiased() -> None:
    stripes = np.zeros((1024, 1024, 3), np.uint8)
    stripes[:, ::2] = 255
    pictures = [stripes, *(np.full((256, 256, 3), value, np.uint8) for value in (127, 0, 255))]
    fine, gray, black, white = (seen.features for seen in observer().observe(pictures))
    nearest = min(np.abs(gray - black).max(), np.abs(gray - white).max())
    assert np.abs(fine - gray).max() < 0.1 * nearest


@pytest.mark.parametrize(
    "picture",
    [np.zeros((64, 64), np.uint8), np.zeros((64, 64, 3), np.float32), np.zeros((3, 64, 64), np.uint8), "cat.png"],
)
def test_what_is_no_picture_is_refused_by_its_place_in_the_list(picture: object) -> None:
    good = np.zeros((64, 64, 3), np.uint8)
    with pytest.raises(ValueError, match=r"picture 1 is .*takes PIL images or uint8 arrays"):
        observer().observe([good, picture])  # type: ignore[list-item]


def test_a_tiny_picture_is_refused() -> None:
    with pytest.raises(ValueError, match="picture 0 is 15×400: a side must have at least 16 pixels"):
        observer().observe([Image.new("RGB", (15, 400))])


def test_an_observer_in_a_folder_is_the_one_that_was_stored(tmp_path: Path) -> None:
    opened = load_observer(write(tmp_path / "observer"))
    picture = Image.effect_noise((256, 256), 60).convert("RGB")
    ours, theirs = (eyes.observe([picture])[0] for eyes in (opened, observer()))
    np.testing.assert_allclose(ours.features, theirs.features, rtol=5e-2, atol=5e-3)
    assert opened.card == card()


@pytest.mark.parametrize("missing", [WEIGHTS, CARD])
def test_a_missing_file_is_named_with_the_remedy(tmp_path: Path, missing: str) -> None:
    folder = write(tmp_path / "observer")
    (folder / missing).unlink()
    with pytest.raises(ModelError, match=rf"{missing} is missing.*training\.critters\.observer_train"):
        load_observer(folder)


def test_weights_of_another_observer_are_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "observer")
    weights = load_file(folder / WEIGHTS)
    weights.pop("heat.bias")
    save_file(weights, folder / WEIGHTS)
    with pytest.raises(ModelError, match="does not hold the weights"):
        load_observer(folder)


@pytest.mark.parametrize(("key", "value"), [("thresholds", {"animal": 0.5}), ("anatomy", {}), ("kinds", 3)])
def test_a_card_that_is_not_whole_is_refused(tmp_path: Path, key: str, value: object) -> None:
    folder = write(tmp_path / "observer")
    (folder / CARD).write_text(json.dumps(json.loads((folder / CARD).read_text()) | {key: value}))
    with pytest.raises(ModelError, match="is no card of an observer"):
        load_observer(folder)


def test_folding_the_normalisation_changes_nothing() -> None:
    torch.manual_seed(1)
    network = ObserverNetwork(NetworkSettings(5, (3, 2), WIDTHS, 8))
    pictures = torch.rand(4, 3, 64, 96) * 2 - 1
    network.train()
    for _ in range(5):
        network(pictures)
    before = network.eval()(pictures)
    after = network.fuse()(pictures)
    torch.testing.assert_close(after.heat, before.heat, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(after.features, before.features, rtol=1e-4, atol=1e-4)
    assert not [name for name in network.state_dict() if "running" in name]
    assert before.heat.shape == (4, 5, 16, 24)
