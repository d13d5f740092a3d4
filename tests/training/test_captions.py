"""Captions: what they must say of a scene, how often, and in which words."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from training.critters.captions import caption, vocabulary
from training.critters.scene import ACCESSORIES, PLACES, TIMES, Animal, Scene, sample_scene

OTHER_WORDS = {"gray": "grey", "rabbit": "bunny", "cat": "kitty", "dog": "puppy", "pig": "piglet"}


def captions(count: int) -> list[tuple[Animal, Scene, str]]:
    # Not the seed of the scene alone: the draws of scene and wording would then go together.
    out = []
    for seed in range(count):
        scene = sample_scene(seed)
        out.append((scene.animals[0].animal, scene, caption(scene, np.random.default_rng((seed, 1)))))
    return out


def says(text: str, word: str) -> bool:
    words = text.replace(",", " ").split()
    return word in words or OTHER_WORDS.get(word) in words


def test_the_same_scene_and_generator_give_the_same_caption() -> None:
    assert captions(50) == captions(50)


def test_one_scene_has_many_wordings() -> None:
    rng = np.random.default_rng(0)
    scene = sample_scene(0)
    assert len({caption(scene, rng) for _ in range(60)}) > 20


def test_colour_and_species_are_always_named() -> None:
    for animal, _, text in captions(1500):
        assert says(text, animal.species), text
        assert says(text, animal.colour), text


def test_an_accessory_is_named_with_its_colour_in_at_least_four_of_five_captions() -> None:
    worn = [(a, text) for a, _, text in captions(1500) if a.accessory != "none"]
    named = [f"{a.accessory_colour} {a.accessory}" in text for a, text in worn]
    assert 0.8 < np.mean(named) < 1


@pytest.mark.parametrize("accessory", ACCESSORIES[1:])
def test_nothing_is_named_that_the_animal_does_not_wear(accessory: str) -> None:
    for animal, _, text in captions(600):
        if animal.accessory != accessory:
            assert accessory not in text


def test_a_pattern_is_usually_named_and_never_invented() -> None:
    named = []
    words = {"spotted": ("spotted", "dotted"), "striped": ("striped",), "fluffy": ("fluffy", "furry")}
    for animal, _, text in captions(1500):
        for pattern, options in words.items():
            said = any(says(text, option) for option in options)
            if animal.pattern == pattern:
                named.append(said)
            else:
                assert not said, text
    assert np.mean(named) > 0.8


def test_the_place_tells_captions_apart() -> None:
    """A place is said in nearly all captions: without it they would be the same for all seven."""
    scene = sample_scene(3)
    texts = {place: caption(replace(scene, place=place), np.random.default_rng(8)) for place in PLACES}
    assert len(set(texts.values())) == len(PLACES)
    texts = {time: caption(replace(scene, time=time), np.random.default_rng(2)) for time in TIMES[1:]}
    assert len(set(texts.values())) == 2


def test_captions_are_tidy() -> None:
    for _, _, text in captions(1500):
        assert text == text.lower().strip()
        assert "  " not in text
        assert " ," not in text
        assert not text.endswith(",")
        assert "none" not in text
        assert "plain" not in text
        assert not re.search(r"\ba [aeiou]", text), text
        assert not re.search(r"\ban [^aeiou]", text), text


def test_every_word_of_every_caption_is_in_the_vocabulary() -> None:
    known = set(vocabulary())
    for _, _, text in captions(1500):
        assert set(re.findall(r"[^\s,-]+", text)) <= known, text


def test_the_vocabulary_is_sorted_lower_case_and_free_of_duplicates() -> None:
    words = vocabulary()
    assert words == sorted(set(words))
    assert all(re.fullmatch(r"[a-z]+", word) for word in words)
