"""Where HiDiffusion makes features coarser: its published settings by the layout of the levels and the size.

Paper: Zhang et al. 2024 (arXiv 2311.17528); the spans are those of the authors' package (PyPI hidiffusion 0.1.10).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..._util.sizes import ImageSize
    from ...patching.coarse_features import Coarse
    from ...unet.architecture import Architecture

_LARGE = 4.0
"""From so many times the native side on, both axes, the published settings of the larger size hold."""
_UNCHANGED = 1.1
"""Up to this ratio of the sides the size is native."""
_PUBLISHED: dict[str, tuple[tuple[tuple[str, int, float, float], ...], ...]] = {
    "sd": ((("sampler", 0, 0.0, 0.4),), (("sampler", 0, 0.0, 0.7), ("pair", 1, 0.0, 0.3))),
    "sdxl": (
        (("sampler", 1, 0.0, 0.16), ("pair", 1, 0.16, 0.4)),
        (("sampler", 1, 0.0, 0.3), ("pair", 1, 0.0, 0.7)),
    ),
}
"""Of each layout of levels, at up to four times the native side and from there on: where features become coarser, at
which level, and from where to where in the trajectory."""


def published_places(architecture: Architecture, size: ImageSize) -> list[Coarse]:
    """By the layout and the size that are nearest; none at the native size."""
    large = min(_ratios(architecture, size)) >= _LARGE
    return [] if is_native(architecture, size) else _places(architecture, large)


def native_places(architecture: Architecture, size: ImageSize) -> list[Coarse]:
    """Those that bring deep features nearest to the native grid, for all steps; none at the native size.

    The larger size's, the first of them where the side is rather doubled than four times the native one.
    """
    if is_native(architecture, size):
        return []
    number = 2 if max(_ratios(architecture, size)) > (2.0 * _LARGE) ** 0.5 else 1
    return [replace(place, begin=0.0, until=1.0) for place in _places(architecture, True)[:number]]


def _places(architecture: Architecture, large: bool) -> list[Coarse]:
    from ...patching.coarse_features import Coarse

    layout = _PUBLISHED["sdxl" if architecture.levels < 4 else "sd"][large]
    return [Coarse(at, level, until, begin) for at, level, begin, until in layout]  # type: ignore[arg-type]


def is_native(architecture: Architecture, size: ImageSize) -> bool:
    """Whether no side is much longer than the native one."""
    return max(_ratios(architecture, size)) <= _UNCHANGED


def _ratios(architecture: Architecture, size: ImageSize) -> tuple[float, float]:
    latents = architecture.grid_size(size)
    return latents.height / architecture.native_height, latents.width / architecture.native_width
