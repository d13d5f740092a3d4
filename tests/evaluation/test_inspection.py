"""What is kept of a picture, which inspector said it, and resizing as clean-fid has it."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from scalecrafter.errors import ScaleCrafterError
from scalecrafter.evaluation.inception import load_inception, resized
from scalecrafter.evaluation.inspection import (
    CROPS,
    FeatureExtractor,
    Inspector,
    PictureMetrics,
    agreeing,
    crops,
    make_inspector,
    same_signature,
)
from scalecrafter.request.request import RequestError
from tests.support.disc_observer import DiscObserver, disc_inspector, draw


def test_findings_are_the_observers_with_the_spectrum_of_the_picture() -> None:
    found = disc_inspector().inspect(draw(2, "blue"))
    assert (found.animals, found.parts, found.one_object, found.well_formed) == (2, {"eye": 4}, False, False)
    assert found.attributes == {"species": "disc", "colour": "blue", "accessory": "none"}
    assert len(found.features["critters"].whole) == 6
    assert found.top_octave > 0
    assert disc_inspector().inspect(draw(1)).well_formed is True


def test_findings_survive_json() -> None:
    found = disc_inspector().inspect(draw(1))
    assert PictureMetrics.model_validate_json(found.model_dump_json()) == found


def test_without_an_observer_nothing_is_counted() -> None:
    found = make_inspector("none", observe=False).inspect(draw(1))
    assert (found.animals, found.one_object, found.features, found.attributes) == (None, None, {}, {})
    assert found.spectrum


def test_an_extractor_of_its_own_gives_the_features_and_the_observer_still_counts() -> None:
    def brightness(picture: Image.Image) -> NDArray[np.float32]:
        return np.asarray(picture, np.float32).mean(axis=(0, 1))

    found = Inspector("imagenet", DiscObserver(), {"imagenet": FeatureExtractor(brightness)}).inspect(draw(1))
    assert found.animals == 1
    assert found.features["imagenet"].whole == pytest.approx(brightness(draw(1)), rel=1e-5)
    assert found.features["critters"] == disc_inspector().inspect(draw(1)).features["critters"]


def test_crops_are_the_middles_of_the_quarters_as_they_are() -> None:
    pixels = np.zeros((512, 1024, 3), np.uint8)
    pixels[..., 0], pixels[..., 1] = np.arange(1024) // 4, (np.arange(512) // 2)[:, None]
    found = [np.asarray(crop) for crop in crops(Image.fromarray(pixels), 256)]
    corners = [(top, left) for top in (0, 256) for left in (128, 640)]
    assert len(found) == CROPS
    for crop, (top, left) in zip(found, corners, strict=True):
        assert np.array_equal(crop, pixels[top : top + 256, left : left + 256])


@pytest.mark.parametrize("size", [(257, 300), (300, 1000), (511, 257)])
def test_crops_of_pictures_hardly_larger_lie_within_them(size: tuple[int, int]) -> None:
    white = Image.new("RGB", size, "white")
    assert [crop.size for crop in crops(white, 256)] == [(256, 256)] * CROPS
    assert all(np.asarray(crop).min() == 255 for crop in crops(white, 256))


@pytest.mark.parametrize("side", [0, 96, 100])
def test_pictures_that_features_see_whole_have_no_crops(side: int) -> None:
    assert crops(draw(2), side) == []


def test_crops_have_the_features_of_a_picture_of_their_own() -> None:
    whole = Image.fromarray(np.random.default_rng(0).integers(0, 255, (160, 192, 3)).astype(np.uint8))
    inspector = Inspector("critters", DiscObserver(), observers_side=64)
    found = inspector.inspect(whole).features["critters"]
    assert len(found.crops) == CROPS
    for features, crop in zip(found.crops, crops(whole, 64), strict=True):
        alone = inspector.inspect(crop).features["critters"].whole
        assert features == pytest.approx(alone, rel=1e-3)  # kept in half precision
    mean = FeatureExtractor(lambda picture: np.asarray(picture, np.float32).mean(axis=(0, 1)), 64)
    own = Inspector("imagenet", DiscObserver(), {"imagenet": mean}).inspect(whole).features["imagenet"]
    assert own.crops[3] == pytest.approx(np.asarray(crops(whole, 64)[3]).mean(axis=(0, 1)), rel=1e-3)


def test_another_examiner_has_another_signature_and_rounding_has_not() -> None:
    ours = disc_inspector().signature()
    assert same_signature(ours, disc_inspector().signature())
    rounded = {name: [value * (1 + 1e-5) for value in values] for name, values in ours.items()}
    assert same_signature(rounded, ours)
    assert same_signature([*rounded["critters"], *rounded["animals"]], ours)  # as version 0.1 wrote it
    extractor = FeatureExtractor(lambda picture: np.asarray(picture, np.float32).std(axis=(0, 1)))
    other = Inspector("imagenet", DiscObserver(), {"imagenet": extractor}).signature()
    assert not same_signature(ours, other)
    assert agreeing(ours, other) == {"critters", "animals"}
    assert not same_signature(ours, make_inspector("none", observe=False).signature())


def test_unknown_features_are_refused_with_the_known_ones() -> None:
    with pytest.raises(RequestError, match="imagenet, critters, inception, none"):
        make_inspector("incepton", observe=False)


@pytest.mark.skipif(importlib.util.find_spec("torch_fidelity") is not None, reason="the package is installed")
def test_inception_without_its_package_names_the_extra() -> None:
    with pytest.raises(ScaleCrafterError, match=r"scalecrafter\[inception\]"):
        load_inception()


def keys_kernel(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys' cubic with a = −1/2."""
    x = np.abs(x)
    near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def resize_matrix(target: int, source: int) -> NDArray[np.float64]:
    """The antialiased cubic as a matrix: when reducing, the kernel is stretched over the pixels that it stands for."""
    scale = source / target
    stretch = max(scale, 1.0)
    centres = (np.arange(target) + 0.5) * scale
    weights = keys_kernel((np.arange(source)[None, :] + 0.5 - centres[:, None]) / stretch)
    return weights / weights.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("size", [(64, 40), (13, 90), (29, 29)])
def test_resizing_is_the_antialiased_cubic_of_clean_fid_in_floats(size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)
    rows, columns = resize_matrix(29, size[1]), resize_matrix(29, size[0])
    expected = np.clip(np.einsum("yi,ijc,xj->yxc", rows, pixels.astype(float), columns), 0, 255)
    found = resized(Image.fromarray(pixels), 29)
    assert found.shape == (29, 29, 3)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_reducing_a_fine_checkerboard_gives_gray_not_a_pattern() -> None:
    board = np.indices((256, 256)).sum(axis=0) % 2 * 255
    found = resized(Image.fromarray(board.astype(np.uint8)), 37)
    assert np.ptp(found) < 2
    assert found.mean() == pytest.approx(127.5, abs=1)
