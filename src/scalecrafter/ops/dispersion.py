"""Convolution dispersion: the transform R that turns a k×k kernel into a larger one with a wider view.

Paper: He et al. 2024 (arXiv 2310.07702), section 3.3.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

SCALE = 2
"""How much farther a dispersed 5×5 kernel sees than the 3×3 kernel it was made from."""


def dispersion_transform(
    kernel_size: int = 3, dispersed_size: int = 5, scale: int = 2, eta: float = 0.05, feature_size: int = 3
) -> NDArray[np.float64]:
    """The matrix R that disperses kernels: `dispersed = R @ kernel.flatten()`, taps in row-major order.

    R minimises, summed over all features h of side `feature_size` (paper, equation 5)::

        ‖up_s(k ∗ h) − (Rk) ∗ up_s(h)‖²  +  η² ‖k ∗ h − (Rk) ∗ h‖²

    with zero padding and `up_s` bilinear onto the grid of side `scale · (feature_size − 1) + 1` (corners aligned).
    Both terms are bilinear in h and k, so every (output pixel, feature pixel) pair gives one linear equation in
    the taps of Rk, and R is the least-squares solution.

    Args:
        kernel_size: side of the kernels that R takes; odd.
        dispersed_size: side of the kernels that R makes; odd and at least `kernel_size`.
        scale: the enlargement of the view that structure-level calibration asks for; 2 or more.
        eta: weight η of the pixel-level calibration; 0 or more.
        feature_size: side of the features over which R is solved; at least 2.

    Returns:
        float64 of shape `(dispersed_size**2, kernel_size**2)`.

    Raises:
        ValueError: for a size that is not as above, or a system that does not determine R.
    """
    _check(kernel_size, dispersed_size, scale, eta, feature_size)
    return _solve(kernel_size, dispersed_size, scale, float(eta), feature_size).copy()


def _check(kernel_size: int, dispersed_size: int, scale: int, eta: float, feature_size: int) -> None:
    for name, value in (("kernel_size", kernel_size), ("dispersed_size", dispersed_size)):
        if value < 1 or value % 2 == 0:
            raise ValueError(f"{name} must be an odd whole number of 1 or more, not {value}")
    if dispersed_size < kernel_size:
        raise ValueError(f"dispersed_size ({dispersed_size}) must be at least kernel_size ({kernel_size})")
    if scale < 2 or scale != int(scale):
        raise ValueError(f"scale must be a whole number of 2 or more, not {scale}")
    if not 0.0 <= eta < np.inf:
        raise ValueError(f"eta must be 0 or more and finite, not {eta}")
    if feature_size < 2:
        raise ValueError(f"feature_size must be 2 or more, not {feature_size}")


@lru_cache(maxsize=32)
def _solve(kernel_size: int, dispersed_size: int, scale: int, eta: float, feature_size: int) -> NDArray[np.float64]:
    upsample = _upsampling(feature_size, scale)
    basis = np.eye(feature_size**2).reshape(-1, feature_size, feature_size)
    stretched = np.einsum("ai,nij,bj->nab", upsample, basis, upsample)
    small = _responses(basis, kernel_size)
    structure_target = np.einsum("ai,ntij,bj->ntab", upsample, small, upsample)
    structure = _equations(_responses(stretched, dispersed_size))
    pixel = _equations(_responses(basis, dispersed_size))
    left = np.concatenate([structure, eta * pixel])
    right = np.concatenate([_equations(structure_target), eta * _equations(small)])
    solution, _, rank, _ = np.linalg.lstsq(left, right, rcond=None)
    if rank < dispersed_size**2:
        raise ValueError(
            f"{rank} of {dispersed_size**2} taps are determined: take a larger feature_size (now {feature_size})"
            + ("" if eta else " or an eta above 0")
        )
    return np.asarray(solution, dtype=np.float64)


def _upsampling(size: int, scale: int) -> NDArray[np.float64]:
    """Linear interpolation from `size` points onto `scale · (size − 1) + 1`, ends on ends."""
    positions = np.arange(scale * (size - 1) + 1) / scale
    return np.maximum(0.0, 1.0 - np.abs(positions[:, None] - np.arange(size)[None, :]))


def _responses(features: NDArray[np.float64], kernel_size: int) -> NDArray[np.float64]:
    """Each feature `(n, side, side)` convolved with each one-tap kernel: `(n, taps, side, side)`."""
    side, reach = features.shape[-1], kernel_size // 2
    padded = np.pad(features, ((0, 0), (reach, reach), (reach, reach)))
    taps = [
        padded[:, row : row + side, column : column + side]
        for row in range(kernel_size)
        for column in range(kernel_size)
    ]
    return np.stack(taps, axis=1)


def _equations(responses: NDArray[np.float64]) -> NDArray[np.float64]:
    """`(n, taps, side, side)` to one row per (feature, output pixel) and one column per tap."""
    return responses.transpose(0, 2, 3, 1).reshape(-1, responses.shape[1])


def disperse_kernel(weight: Tensor, transform: Tensor) -> Tensor:
    """The dispersed kernels of a convolution.

    Args:
        weight: `(out_channels, in_channels, k, k)`.
        transform: R, `(d*d, k*k)`, as `dispersion_transform` gives it.

    Returns:
        `(out_channels, in_channels, d, d)` in the dtype and on the device of `weight`; computed in float32 or better.
    """
    size = round(transform.shape[0] ** 0.5)
    precise = torch.promote_types(weight.dtype, torch.float32)
    flat = weight.detach().to(precise).flatten(2)
    dispersed = flat @ transform.to(device=weight.device, dtype=precise).T
    return dispersed.reshape(*weight.shape[:2], size, size).to(weight.dtype)
