"""The observer that the package carries, on renders that neither its training nor its report has seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from scalecrafter.evaluation.observer import WEIGHTS, Observer, load_observer
from training.critters.observer_data import ObserverSet, observer_set
from training.critters.observer_report import Rate, evaluate
from training.critters.renderer import render
from training.critters.scene import FRAMINGS, framing_of, sample_scene

UNSEEN = 30_000_000
PICTURES = 220


@pytest.fixture(scope="module")
def observer() -> Observer:
    return load_observer()


@pytest.fixture(scope="module")
def unseen(tmp_path_factory: pytest.TempPathFactory) -> ObserverSet:
    return observer_set(tmp_path_factory.mktemp("unseen"), PICTURES, UNSEEN, report=lambda _: None)


@pytest.fixture(scope="module")
def rates(observer: Observer, unseen: ObserverSet) -> dict[str, Rate]:
    return evaluate(observer, unseen, np.asarray(unseen.pictures))


@pytest.mark.slow
@pytest.mark.parametrize(("question", "least"), [("animals", 0.96), ("species", 0.93), ("colour", 0.97)])
def test_it_is_right_about_renders_that_it_has_not_seen(rates: dict[str, Rate], question: str, least: float) -> None:
    assert rates[question]["of"] >= 100
    assert rates[question]["rate"] >= least


@pytest.mark.slow
def test_it_tells_malformed_animals_from_whole_ones(rates: dict[str, Rate]) -> None:
    whole, malformed = rates["whole animals found well-formed"], rates["malformed animals found out"]
    assert min(whole["of"], malformed["of"]) >= 40
    assert whole["rate"] >= 0.85
    assert malformed["rate"] >= 0.75


@pytest.mark.slow
def test_it_finds_one_animal_in_large_pictures(observer: Observer) -> None:
    """Of every shape, from far away to close up."""
    scenes = {framing_of(scene.animals[0].height): scene for scene in map(sample_scene, range(UNSEEN, UNSEEN + 24))}
    assert set(scenes) == set(FRAMINGS)
    sizes = [(1024, 1024), (512, 1024), (1024, 512)]
    pictures = [Image.fromarray(render(scene, *size)) for size in sizes for scene in scenes.values()]
    assert sum(seen.one_object for seen in observer.observe(pictures)) >= 11


def test_two_pictures_side_by_side_are_two_animals(observer: Observer) -> None:
    """What direct inference does is counted as what it is."""
    pairs = [[render(sample_scene(UNSEEN + 2 * k + side), 256, 256) for side in (0, 1)] for k in range(12)]
    seen = observer.observe([np.concatenate(pair, axis=1) for pair in pairs])
    assert sum(one.animals == 2 for one in seen) >= 11
    assert not any(one.well_formed for one in seen)


def test_it_sees_no_animal_in_noise_or_grey(observer: Observer) -> None:
    noise = torch.randint(0, 256, (4, 256, 256, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    grey = np.full((256, 256, 3), 127, np.uint8)
    assert [seen.animals for seen in observer.observe([*noise.numpy(), grey])] == [0] * 5


def test_no_whole_animal_lacks_an_eye_or_its_mouth_however_near_it_is(observer: Observer) -> None:
    for anatomy in observer.card.anatomy.values():
        for parts in (anatomy.parts, *(view.parts for view in anatomy.closer)):
            assert (parts["eye"], parts["mouth"]) == ((2, 2), (1, 1))


def test_it_is_small() -> None:
    import scalecrafter.evaluation.observer as module

    assert (Path(module.__file__).with_name("observer") / WEIGHTS).stat().st_size < 6e6
