"""What is kept of a picture, which examiner said it, and resizing as clean-fid has it."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from scalecrafter.errors import ScaleCrafterError
from scalecrafter.evaluation.inception import load_inception, resized
from scalecrafter.evaluation.looking import Examiner, Findings, make_examiner, same_signature
from scalecrafter.request import RequestError
from tests.evaluation.eyes import DiscObserver, disc_examiner, draw


def test_findings_are_the_observers_with_the_spectrum_of_the_picture() -> None:
    found = disc_examiner().examine(draw(2, "blue"))
    assert (found.animals, found.parts, found.one_object, found.well_formed) == (2, {"eye": 4}, False, False)
    assert found.attributes == {"species": "disc", "colour": "blue", "accessory": "none"}
    assert len(found.features) == 6
    assert found.top_octave > 0
    assert disc_examiner().examine(draw(1)).well_formed is True


def test_findings_survive_json() -> None:
    found = disc_examiner().examine(draw(1))
    assert Findings.model_validate_json(found.model_dump_json()) == found


def test_without_an_observer_nothing_is_counted() -> None:
    found = make_examiner("none", observe=False).examine(draw(1))
    assert (found.animals, found.one_object, found.features, found.attributes) == (None, None, [], {})
    assert found.spectrum


def test_an_extractor_of_its_own_gives_the_features_and_the_observer_still_counts() -> None:
    def brightness(picture: Image.Image) -> NDArray[np.float32]:
        return np.asarray(picture, np.float32).mean(axis=(0, 1))

    found = Examiner("inception", DiscObserver(), brightness).examine(draw(1))
    assert found.animals == 1
    assert found.features == pytest.approx(brightness(draw(1)), rel=1e-5)


def test_another_examiner_has_another_signature_and_rounding_has_not() -> None:
    ours = disc_examiner().signature()
    assert same_signature(ours, disc_examiner().signature())
    assert same_signature(ours, [value * (1 + 1e-5) for value in ours])
    other = Examiner("critters", DiscObserver(), lambda picture: np.asarray(picture, np.float32).std(axis=(0, 1)))
    assert not same_signature(ours, other.signature())
    assert not same_signature(ours, make_examiner("none", observe=False).signature())


def test_unknown_features_are_refused_with_the_known_ones() -> None:
    with pytest.raises(RequestError, match="critters, inception, none"):
        make_examiner("incepton", observe=False)


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
