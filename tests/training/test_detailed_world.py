"""The detailed world: textures that are the same at every size and alike at every scale, animals in many sizes."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import islice, pairwise

import numpy as np
import pytest
import skia
from numpy.typing import NDArray
from PIL import Image

from training.critters import materials
from training.critters.captions import caption, vocabulary
from training.critters.data import SHAPES, details, shape_of, shapes_of
from training.critters.drawing import Pen
from training.critters.evaluation_prompts import says
from training.critters.observer_parts import seen_parts
from training.critters.observer_scenes import SEEN
from training.critters.renderer import render, render_with_parts
from training.critters.scene import (
    COLOURS,
    FRAMING_SHARES,
    FRAMINGS,
    Animal,
    PlacedAnimal,
    Scene,
    framing_of,
    sample_scene,
)
from training.critters.texture import FADE, Material, Weaver, elements_of

MATERIALS = {name: value for name, value in vars(materials).items() if isinstance(value, Material)} | {
    f"{species}, {where}": materials.coat(species, "plain", where)
    for species in ("cat", "pig", "owl", "frog")
    for where in ("body", "head")
}
SPARSE = ("STARS",)


def woven(material: Material, side: int, seed: int = 0) -> NDArray[np.float64]:
    """A square of nothing but the material, as luminance in 0…1."""
    surface = skia.Surface(side, side)
    canvas = surface.getCanvas()
    canvas.scale(side, side)
    pen = Pen(canvas, weaver=Weaver(side, side), seed=seed)
    with pen.clad(material, (0, 0, 1, 1)):
        pen.rect(0, 0, 1, 1, (120, 150, 110))
    return np.asarray(surface.makeImageSnapshot().toarray()[..., :3].mean(2) / 255)


def octaves(luminance: NDArray[np.float64]) -> NDArray[np.float64]:
    """log2 of the mean power density between 1/64, 1/32, 1/16, 1/8, 1/4 and 1/2 cycles a pixel."""
    side = len(luminance)
    window = np.outer(np.hanning(side), np.hanning(side))
    power = np.abs(np.fft.fft2((luminance - np.average(luminance, weights=window)) * window)) ** 2 / (window**2).sum()
    radius = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side)[None, :])
    edges = 2.0 ** np.arange(-6, 0)
    return np.log2([power[(radius >= low) & (radius < high)].mean() for low, high in pairwise(edges)])


def slope(bands: NDArray[np.float64]) -> float:
    return float(np.polyfit(np.arange(len(bands)), bands, 1)[0])


@pytest.mark.parametrize("name", [name for name in MATERIALS if name not in SPARSE])
def test_the_spectrum_of_a_texture_falls_alike_at_every_size(name: str) -> None:
    sizes = [octaves(woven(MATERIALS[name], side)) for side in (256, 512, 1024)]
    slopes = [slope(bands) for bands in sizes]
    assert all(-3.1 < each < -1.7 for each in slopes), slopes  # about 1/f²
    assert max(slopes) - min(slopes) < 0.4, slopes
    finest = [bands[-1] for bands in sizes]
    assert max(finest) - min(finest) < 0.5, finest  # as strong at every size; enlarged, it would lose some two a time


@pytest.mark.parametrize("name", ["SKY", "GRASS", "BRICKS", "cat, head"])
def test_a_larger_texture_only_adds_finer_octaves(name: str) -> None:
    small = woven(MATERIALS[name], 256)
    large = np.asarray(Image.fromarray(woven(MATERIALS[name], 1024).astype(np.float32)).reduce(4), np.float64)
    other = woven(MATERIALS[name], 256, seed=1)
    inner = (slice(16, -16), slice(16, -16))
    same, chance = (np.corrcoef(small[inner].ravel(), each[inner].ravel())[0, 1] for each in (large, other))
    assert same > 0.8
    assert abs(chance) < 0.3


def test_elements_below_the_cut_are_not_drawn() -> None:
    grass = materials.GRASS
    lengths = [grass.length * grass.coarsest / 2**octave * 64 for octave in range(6)]
    assert lengths[-1] < FADE[0] < FADE[1] < lengths[0]
    tiny = replace(grass, coarsest=grass.coarsest / 64)
    assert woven(tiny, 64).std() < 1e-6 < woven(grass, 64).std()


def test_an_element_is_the_same_wherever_the_picture_is_cut() -> None:
    whole = elements_of(materials.LEAVES, 0.05, 7, (0, 0, 1, 1))
    part = elements_of(materials.LEAVES, 0.05, 7, (0.4, 0.3, 0.6, 0.5))
    everything = {(round(x, 9), round(y, 9), round(a, 9)) for x, y, a in zip(whole.x, whole.y, whole.angle)}
    inside = {(round(x, 9), round(y, 9), round(a, 9)) for x, y, a in zip(part.x, part.y, part.angle)}
    assert 20 < len(inside) < len(everything)
    assert inside <= everything


def test_a_detailed_scene_is_the_same_at_four_times_the_side() -> None:
    for seed in (0, 5):
        scene = sample_scene(seed, "detailed")
        small = render(scene, 256, 256).astype(float)
        assert np.array_equal(small, render(scene, 256, 256))
        large = np.asarray(Image.fromarray(render(scene, 1024, 1024)).reduce(4), float)
        other = render(sample_scene(seed + 100, "detailed"), 256, 256).astype(float)
        psnr = [10 * np.log10(255**2 / np.square(small - each).mean()) for each in (large, other)]
        assert psnr[0] > 28
        assert psnr[1] < 18


def test_a_large_render_has_detail_that_enlarging_lacks_in_every_tile_of_the_ground() -> None:
    scene = sample_scene(2, "detailed")
    large = render(scene, 1024, 1024)[860:988, 64:960].mean(2) / 255
    enlarged = Image.fromarray(render(scene, 256, 256)).resize((1024, 1024), Image.Resampling.LANCZOS)
    small = np.asarray(enlarged)[860:988, 64:960].mean(2) / 255
    for column in range(0, large.shape[1] - 128, 128):
        tiles = [each[:, column : column + 128] for each in (large, small)]
        assert octaves(tiles[0])[-1] > octaves(tiles[1])[-1] + 3


@pytest.mark.parametrize("time", ["day", "sunset", "night"])
def test_textured_coats_keep_their_colours(time: str) -> None:
    def coat(name: str, world: str) -> NDArray[np.float64]:
        placed = PlacedAnimal(Animal("bear", name), 0.5, 0.95, 0.85)
        picture, parts = render_with_parts(Scene((placed,), "meadow", time, 3, world), 256, 256)
        left, right = [part for part in parts if part.kind == "eye"]
        x, y = int((left.x + right.x) * 128), int((left.y - 2 * left.radius) * 256)
        return np.asarray(picture[y - 5 : y + 6, x - 9 : x + 10].reshape(-1, 3).mean(0))

    flat = {name: coat(name, "flat") for name in COLOURS}
    for name in COLOURS:
        seen = coat(name, "detailed")
        assert min(flat, key=lambda other: float(np.linalg.norm(flat[other] - seen))) == name


def test_eyes_stay_clean() -> None:
    for seed in range(6):
        scene = sample_scene(seed, "detailed")
        pictures = [render(each, 256, 256).astype(int) for each in (scene, replace(scene, world="flat"))]
        for eye in (part for part in render_with_parts(scene, 256, 256)[1] if part.kind == "eye"):
            x, y, r = int(eye.x * 256), int(eye.y * 256), int(eye.radius * 256 * 0.6)
            if r <= x < 256 - r and r <= y < 256 - r:
                one, other = (each[y - r : y + r, x - r : x + r] for each in pictures)
                assert np.abs(one - other).max() <= 2


def test_animals_come_in_all_sizes_and_captions_say_so() -> None:
    words = {"far": ("far away", "in the distance"), "portrait": ("a portrait of",), "close-up": ("a close-up of",)}
    seen: Counter[str] = Counter()
    for seed in range(500):
        scene = sample_scene(seed, "detailed")
        framing = framing_of(scene.animals[0].height)
        seen[framing] += 1
        text = caption(scene, np.random.default_rng((seed, 1)))
        for name, options in words.items():
            assert any(option in text for option in options) == (name == framing), text
        assert says(text, scene.animals[0].animal) or scene.animals[0].animal.accessory not in text
    heights = [sample_scene(seed, "detailed").animals[0].height for seed in range(500)]
    assert 0.27 <= min(heights) < 0.29
    assert 2.2 < max(heights) <= 2.4
    for name, share in zip(FRAMINGS, FRAMING_SHARES, strict=True):
        assert seen[name] / 500 == pytest.approx(share, abs=0.05)


def test_the_sizes_are_words_of_the_detailed_world_only() -> None:
    assert {"close", "portrait", "far", "away", "distance"} == set(vocabulary("detailed")) - set(vocabulary("flat"))
    known = set(vocabulary("detailed"))
    for seed in range(300):
        text = caption(sample_scene(seed, "detailed"), np.random.default_rng(seed))
        assert set(text.replace(",", "").replace("-", " ").split()) <= known, text


def test_training_pictures_have_several_shapes_of_about_one_area() -> None:
    for width, height in SHAPES:
        assert width % 64 == height % 64 == 0
        assert 0.5 <= width / height <= 2
        assert 0.9 < width * height / 256**2 < 1.15
    assert sum(SHAPES.values()) == 1
    drawn = shapes_of(range(1000), "detailed")
    assert list(drawn) == list(SHAPES)
    assert {shape: len(seeds) / 1000 for shape, seeds in drawn.items()} == pytest.approx(SHAPES, abs=0.04)
    assert all(shape_of(seed, "detailed") == shape for shape, seeds in drawn.items() for seed in seeds)
    assert {shape_of(seed, "flat") for seed in range(100)} == {(256, 256)}


def test_what_is_left_of_an_animal_in_the_picture_is_what_is_marked() -> None:
    """Close-ups keep the face, and only what is in the frame counts; all of far and whole animals is there."""
    tally: dict[str, Counter[str]] = {name: Counter() for name in FRAMINGS}
    number: Counter[str] = Counter()
    shapes = list(SHAPES)
    for seed in range(120):
        scene = sample_scene(seed, "detailed")
        width, height = shapes[seed % len(shapes)]
        framing = framing_of(scene.animals[0].height)
        parts = [part for part in seen_parts(scene, width, height) if part.seen >= SEEN]
        tally[framing].update(part.kind for part in parts)
        number[framing] += 1
        for part in parts:
            assert part.kind == "animal" or (0 <= part.x < width and 0 <= part.y < height)
    for framing, kinds in tally.items():
        assert kinds["animal"] == number[framing]
        assert kinds["mouth"] == number[framing]
        assert kinds["eye"] == 2 * number[framing]
    tails = {framing: kinds["tail"] / number[framing] for framing, kinds in tally.items()}
    assert tails["close-up"] < 0.4
    assert min(tails["whole"], tails["far"]) > 0.55


def test_details_of_a_shape_have_its_latents_size() -> None:
    seeds = list(islice((seed for seed in range(99) if shape_of(seed, "detailed") == (384, 192)), 3))
    near = details(seeds, (384, 192), "detailed", workers=1)
    assert near.shape == (3, 24, 48)
    for row, seed in zip(near, seeds, strict=True):
        for part in render_with_parts(sample_scene(seed, "detailed"), 384, 192)[1]:
            if part.kind != "animal" and 0 <= part.x < 1 and 0 <= part.y < 1:
                assert row[int(part.y * 24), int(part.x * 48)]
