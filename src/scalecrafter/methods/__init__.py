"""Every way of making a large picture, by name: what a request's `method` can be.

The table only: names, what they do, where they come from, and which settings have an effect on them.  Knows nothing
of torch, so that a request can be checked and help be printed without it; a method's module is imported when it is
used, and its `make` turns a `Job` into a picture.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

    from .job import Job


@dataclass(frozen=True)
class Method:
    """One way of making a large picture."""

    name: str
    summary: str
    """In one line, what it does."""
    source: str
    """Paper and section, or where the practice is from."""
    module: str
    """Of this package; it holds `make`."""
    takes: frozenset[str] = frozenset()
    """Those of recipe, freeu, image (and its mask), control and strength (without an image) that have an effect."""

    @property
    def make(self) -> Callable[[Job], Image.Image]:
        """The function that makes the picture."""
        function: Callable[[Job], Image.Image] = import_module(f".{self.module}", __name__).make
        return function


_PAPER = "He et al. 2024 (arXiv 2310.07702)"


def _ablation(name: str, summary: str, source: str) -> Method:
    takes = frozenset({"recipe", "freeu", "image", "control"})
    return Method(f"scalecrafter-{name}", f"ablation: {summary}", source, "ablations", takes)


_ALL = (
    Method(
        "scalecrafter",
        "re-dilated convolutions, by the request's recipe or the automatic one",
        f"{_PAPER}, section 3",
        "recipe",
        frozenset({"recipe", "freeu", "image", "control"}),
    ),
    Method(
        "direct",
        "the pipeline as it is, at the size asked for",
        "the baseline of all papers named here",
        "direct",
        frozenset({"image", "control"}),
    ),
    Method(
        "attention-scaling",
        "self-attention sharpened so that its entropy stays that of the native size",
        "Jin et al. 2023 (arXiv 2306.08645), section 3.2",
        "attention_scaling",
        frozenset({"image", "control"}),
    ),
    Method(
        "multidiffusion",
        "overlapping windows of the native size, averaged at each step",
        "Bar-Tal et al. 2023 (arXiv 2302.08113), section 3",
        "multidiffusion",
        frozenset({"image"}),
    ),
    Method(
        "upscale",
        "a picture of the native size, enlarged with Lanczos",
        "the baseline of any picture editor",
        "upscale",
    ),
    Method(
        "hires-fix",
        "a picture of the native size, its latents enlarged, then image to image at the full size",
        "the practice of AUTOMATIC1111's web UI (upscaler Latent)",
        "hires_fix",
        frozenset({"strength"}),
    ),
    Method(
        "cascade",
        "a picture of the native size, then stages of at most twice the side: enlarge, add noise, finish re-dilated",
        f"of this project: {_PAPER}, section 3.2, begun from a picture as in SDEdit (arXiv 2108.01073)",
        "cascade",
        frozenset({"recipe", "strength"}),
    ),
    _ablation(
        "fixed",
        "what the first step does, every step does",
        f"{_PAPER}, section 3.2, without its timestep-wise factors",
    ),
    _ablation(
        "dynamic",
        "re-dilation only in the first 0.6 of the trajectory, for recipes that never stop",
        f"{_PAPER}, section 3.2; the span published for SD 1.5 at four times the pixels",
    ),
    _ablation(
        "not-progressive",
        "the recipe's full factors to the end of its span",
        f"{_PAPER}, section 3.2, without its progressive factors",
    ),
    _ablation(
        "progressive",
        "factors that shrink over the span, for recipes whose factors stay",
        f"{_PAPER}, section 3.2",
    ),
    _ablation(
        "undamped",
        "the recipe without noise damping",
        f"{_PAPER}, section 3.4, left out",
    ),
    _ablation(
        "damped",
        "noise damping with a strong denoiser dilated half as far, for recipes that have none",
        f"{_PAPER}, section 3.4; half the factors as published for SDXL at sixteen times the pixels",
    ),
    _ablation(
        "dispersed",
        "with dispersed kernels in the first 0.4 of the trajectory, for recipes that have none",
        f"{_PAPER}, section 3.3",
    ),
    _ablation(
        "isotropic",
        "one factor, the geometric mean, on both axes",
        f"{_PAPER}, whose factors are one for both axes",
    ),
)

METHODS: Mapping[str, Method] = MappingProxyType({method.name: method for method in _ALL})
"""The methods by name, ours first."""
