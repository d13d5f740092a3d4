"""The dispersion transform R against least squares by brute force, and against the published matrix."""

from __future__ import annotations

import pytest
import torch

from scalecrafter import dispersion_transform
from tests.support.reference import dispersion_matrix

# (kernel_size, dispersed_size, scale, eta, feature_size)
SETTINGS = [
    (3, 5, 2, 0.05, 3),
    (3, 5, 2, 0.05, 4),
    (3, 5, 2, 0.3, 5),
    (3, 5, 2, 1.0, 3),
    (3, 5, 3, 0.1, 3),
    (3, 7, 3, 0.05, 3),
    (3, 7, 2, 0.1, 4),
    (5, 9, 2, 0.05, 5),
]

# Entries (row, column) of `R` in transforms/R20to1_new.mat of github.com/YingqingHe/ScaleCrafter, made there with
# MATLAB: kernel 3, dispersed 5, scale 2, η 0.05, features 3×3.
PUBLISHED = {
    (0, 0): 0.6487899082860078,
    (0, 1): -0.002858082714297812,
    (1, 1): 0.006072757256561535,
    (6, 0): 0.13279868459894906,
    (6, 1): -0.007763725811907931,
    (7, 1): 0.3604772582035599,
    (12, 0): 0.02297422748854593,
    (12, 4): 1.0,
    (17, 2): -0.013492033518418167,
    (24, 8): 0.6487899082860078,
}


def difference(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().max())


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_the_transform_is_the_least_squares_solution(settings: tuple[int, int, int, float, int]) -> None:
    kernel_size, dispersed_size, scale, eta, feature_size = settings
    transform = torch.as_tensor(
        dispersion_transform(
            kernel_size=kernel_size, dispersed_size=dispersed_size, scale=scale, eta=eta, feature_size=feature_size
        )
    )
    assert transform.dtype == torch.float64
    assert tuple(transform.shape) == (dispersed_size**2, kernel_size**2)
    assert difference(transform, dispersion_matrix(*settings)) < 1e-10


def test_the_default_transform_is_the_published_one() -> None:
    transform = torch.as_tensor(dispersion_transform())
    for (row, column), value in PUBLISHED.items():
        assert float(transform[row, column]) == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize("settings", [SETTINGS[0], SETTINGS[5]], ids=str)
def test_the_transform_has_the_symmetries_of_the_square(settings: tuple[int, int, int, float, int]) -> None:
    """Turning or mirroring a kernel turns or mirrors its dispersed kernel."""
    kernel_size, dispersed_size, scale, eta, feature_size = settings
    transform = torch.as_tensor(dispersion_transform(kernel_size, dispersed_size, scale, eta, feature_size))
    square = transform.reshape(dispersed_size, dispersed_size, kernel_size, kernel_size)
    assert difference(square, square.flip(0, 2)) < 1e-12
    assert difference(square, square.flip(1, 3)) < 1e-12
    assert difference(square, square.permute(1, 0, 3, 2)) < 1e-12


def test_the_centre_tap_stays_where_it_is() -> None:
    """The identity kernel, dispersed, is still the identity."""
    transform = torch.as_tensor(dispersion_transform())
    centre = torch.zeros(25, dtype=torch.float64)
    centre[12] = 1
    assert difference(transform[:, 4], centre) < 1e-12


def test_eta_weighs_the_pixel_level_calibration() -> None:
    """A large η keeps the dispersed kernel near the original one, set in the middle of the 5×5 grid."""
    kernel = torch.eye(9, dtype=torch.float64).reshape(9, 3, 3)
    padded = torch.nn.functional.pad(kernel, (1, 1, 1, 1)).reshape(9, 25).T
    distances = [difference(torch.as_tensor(dispersion_transform(eta=eta)), padded) for eta in (0.05, 1.0, 1000.0)]
    assert distances[0] > distances[1] > distances[2]
    assert distances[2] < 1e-3
