"""The layers that see the most: the deepest levels of a U-Net, by module path.

Knows nothing of what is done to them.
"""

from __future__ import annotations

from ..errors import RecipeError
from ..unet.architecture import Architecture


def deepest_layers(architecture: Architecture, levels: int = 2) -> list[str]:
    """Prefixes of the `levels` deepest levels, on the way down and up, and of the middle block.

    Raises:
        RecipeError: for more levels than the U-Net has.
    """
    if levels > architecture.levels:
        raise RecipeError(f"the {levels} deepest levels are asked for, and this U-Net has {architecture.levels}")
    down = [f"down_blocks.{level}" for level in range(architecture.levels - levels, architecture.levels)]
    up = [f"up_blocks.{place}" for place in range(levels)]
    return [*down, "mid_block", *up]
