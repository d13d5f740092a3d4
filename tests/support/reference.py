"""The reference implementation of ScaleCrafter (He et al., ICLR 2024, arXiv 2310.07702): slow and plain.

It shares no code with `src/`. Everything is done the dullest way: the U-Net is patched anew for each evaluation, every
re-dilated feature map is resized whether it must be or not, dispersed kernels are computed at each use, and noise
damping evaluates a whole guided pair in each of its two denoisers.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import math
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Factor = tuple[Fraction, Fraction]  # (vertical, horizontal)


# ---------------------------------------------------------------------------------------------------------- dispersion


@functools.cache
def dispersion_matrix(kernel_size: int, dispersed_size: int, scale: int, eta: float, feature_size: int) -> Tensor:
    """R, (dispersed_size², kernel_size²), by least squares over every unit feature map and every unit kernel.

    Column m holds the dispersed kernel K that minimises, for the unit kernel k = e_m,
    Σ_h ‖up(k∗h) − K∗up(h)‖² + η² Σ_h ‖k∗h − K∗h‖², h running over all unit maps of feature_size².
    """
    n, big = feature_size, scale * (feature_size - 1) + 1

    def up(image: Tensor) -> Tensor:
        return F.interpolate(image[None, None], size=(big, big), mode="bilinear", align_corners=True)[0, 0]

    def convolve(image: Tensor, kernel: Tensor) -> Tensor:
        return F.conv2d(image[None, None], kernel[None, None], padding=kernel.shape[-1] // 2)[0, 0]

    def unit(side: int, index: int) -> Tensor:
        image = torch.zeros(side * side, dtype=torch.float64)
        image[index] = 1
        return image.reshape(side, side)

    rows, targets = [], []
    for position in range(n * n):
        h = unit(n, position)
        for weight, seen in ((1.0, up(h)), (eta, h)):
            columns = [convolve(seen, unit(dispersed_size, tap)) for tap in range(dispersed_size**2)]
            rows.append(weight * torch.stack(columns, dim=-1).reshape(-1, dispersed_size**2))
            wanted = [convolve(h, unit(kernel_size, tap)) for tap in range(kernel_size**2)]
            wanted = [up(image) for image in wanted] if seen.shape[-1] == big and weight == 1.0 else wanted
            targets.append(weight * torch.stack(wanted, dim=-1).reshape(-1, kernel_size**2))
    return torch.linalg.lstsq(torch.cat(rows), torch.cat(targets), driver="gelsd").solution


# ------------------------------------------------------------------------------------------------------ the recipe


def exact(number: float | str) -> Fraction:
    """The decimal number that the recipe's author wrote."""
    return Fraction(str(number))


def as_factor(value: Any) -> Factor:
    """A number, or [vertical, horizontal]."""
    vertical, horizontal = value if isinstance(value, list | tuple) else (value, value)
    return exact(vertical), exact(horizontal)


def longest_prefix(name: str, prefixes: Iterable[str]) -> str | None:
    """The longest of `prefixes` that is `name` or one of its parents."""
    parts = name.split(".")
    best: str | None = None
    for prefix in prefixes:
        prefix_parts = prefix.split(".")
        fits = parts[: len(prefix_parts)] == prefix_parts
        if fits and (best is None or len(prefix_parts) > len(best.split("."))):
            best = prefix
    return best


def covered(unet: nn.Module, prefixes: Iterable[str]) -> dict[str, str]:
    """Convolution path → the prefix that rules it: the 3×3 ones below a prefix, and whichever is named in full."""
    prefixes = list(prefixes)
    result = {}
    for name, module in unet.named_modules():
        if not isinstance(module, nn.Conv2d):
            continue
        if name in prefixes:
            result[name] = name
        elif tuple(module.kernel_size) == (3, 3):
            prefix = longest_prefix(name, prefixes)
            if prefix is not None:
                result[name] = prefix
    return result


def in_span(section: dict[str, Any] | None, step: int, steps: int) -> bool:
    """Whether i / N < until."""
    return section is not None and Fraction(step, steps) < exact(section["until"])


def progressive_factor(factor: Fraction, step: int, steps: int, until: Fraction) -> Fraction:
    """max(ceil(d · (1 − i / (N · until))), 2); an axis that is left alone stays so."""
    if factor == 1:
        return factor
    return Fraction(max(math.ceil(factor * (1 - Fraction(step) / (steps * until))), 2))


def dispersed_layers(unet: nn.Module, recipe: dict[str, Any], step: int, steps: int) -> list[str]:
    """Names of the convolutions that run their dispersed kernel at this step."""
    section = recipe.get("dispersion")
    if section is None or not in_span(section, step, steps):
        return []
    return list(covered(unet, section["layers"]))


def layer_factors(
    unet: nn.Module, recipe: dict[str, Any], section_name: str, step: int, steps: int
) -> dict[str, Factor]:
    """Factors of `section_name` ("redilation" or "noise_damping") at this step; dispersed layers' are halved."""
    section = recipe.get(section_name)
    if section is None or not in_span(section, step, steps):
        return {}
    progressive = recipe.get("redilation", {}).get("progressive", False)
    dispersed = dispersed_layers(unet, recipe, step, steps)
    result = {}
    sooner = section.get("layers_until", {})
    ends = covered(unet, sooner)
    for name, prefix in covered(unet, section["layers"]).items():
        vertical, horizontal = as_factor(section["layers"][prefix])
        until = exact(sooner[ends[name]] if name in ends else section["until"])
        if Fraction(step, steps) >= until:
            continue
        if progressive:
            vertical = progressive_factor(vertical, step, steps, until)
            horizontal = progressive_factor(horizontal, step, steps, until)
        if name in dispersed:
            vertical, horizontal = vertical / 2, horizontal / 2
        result[name] = (vertical, horizontal)
    return result


# ------------------------------------------------------------------------------------------------- one convolution


def redilated_convolution(x: Tensor, conv: nn.Conv2d, weight: Tensor, factor: Factor) -> Tensor:
    """Stretch `x` by ceil(d)/d, convolve with dilation ceil(d), resize to the undilated convolution's output size."""
    vertical, horizontal = factor
    dilation = (math.ceil(vertical), math.ceil(horizontal))
    stretched = (
        round(x.shape[-2] * Fraction(dilation[0]) / vertical),
        round(x.shape[-1] * Fraction(dilation[1]) / horizontal),
    )
    plain = F.conv2d(x, conv.weight, conv.bias, conv.stride, conv.padding)
    x = F.interpolate(x, size=stretched, mode="bilinear", align_corners=False)
    reach = (weight.shape[-1] - 1) // 2
    x = F.conv2d(x, weight, conv.bias, conv.stride, (dilation[0] * reach, dilation[1] * reach), dilation)
    return F.interpolate(x, size=plain.shape[-2:], mode="bilinear", align_corners=False)


def dispersed_weight(conv: nn.Conv2d, section: dict[str, Any]) -> Tensor:
    """R·k for each of the convolution's kernels."""
    size = section.get("kernel_size", 5)
    matrix = dispersion_matrix(conv.kernel_size[0], size, 2, section.get("eta", 0.05), 3)
    flat = conv.weight.double().flatten(2)
    return torch.einsum("rk,oik->oir", matrix, flat).unflatten(-1, (size, size)).to(conv.weight.dtype)


@contextlib.contextmanager
def patched(
    unet: nn.Module, factors: dict[str, Factor], dispersed: list[str], section: dict[str, Any] | None
) -> Iterator[nn.Module]:
    """The U-Net with its named convolutions re-dilated and dispersed, for as long as the block lasts."""
    changed = [(name, module) for name, module in unet.named_modules() if name in factors or name in dispersed]
    for name, conv in changed:
        assert isinstance(conv, nn.Conv2d)
        assert all(pad == (size - 1) // 2 for pad, size in zip(conv.padding, conv.kernel_size))

        def forward(x: Tensor, conv: nn.Conv2d = conv, name: str = name) -> Tensor:
            weight = dispersed_weight(conv, section) if name in dispersed and section is not None else conv.weight
            return redilated_convolution(x, conv, weight, factors.get(name, (Fraction(1), Fraction(1))))

        conv.forward = forward  # type: ignore[method-assign]
    yield unet
    for _, conv in changed:
        del conv.forward


# ---------------------------------------------------------------------------------------------------- the whole method


@torch.no_grad()
def denoise(
    unet: nn.Module,
    scheduler: Any,
    latents: Tensor,
    *,
    prompt_embeds: Tensor,
    negative_embeds: Tensor,
    recipe: dict[str, Any],
    steps: int,
    guidance_scale: float,
    added_cond_kwargs: dict[str, Tensor] | None = None,
    **noise: torch.Generator,
) -> Tensor:
    """Latents (batch, channels, height, width) from noise to the picture under `recipe`.

    Embeddings have one row per image; `added_cond_kwargs` (SDXL) has the rows of the negative prompts, then those of
    the prompts. `recipe` is the recipe file as a dictionary; an empty one is the unchanged model. `noise` is the
    `generator` of a scheduler that draws noise. A step is an entry of the scheduler's table, which may be longer than
    `steps` (Heun).
    """
    scheduler = copy.deepcopy(scheduler)
    scheduler.set_timesteps(steps)
    steps = len(scheduler.timesteps)
    embeds = torch.cat([negative_embeds, prompt_embeds])
    extra = {} if added_cond_kwargs is None else {"added_cond_kwargs": added_cond_kwargs}
    latents = latents * scheduler.init_noise_sigma
    for step, timestep in enumerate(scheduler.timesteps):
        pair = scheduler.scale_model_input(torch.cat([latents, latents]), timestep)
        dispersed = dispersed_layers(unet, recipe, step, steps)

        factors = layer_factors(unet, recipe, "redilation", step, steps)
        with patched(unet, factors, dispersed, recipe.get("dispersion")) as structure:
            output = structure(pair, timestep, encoder_hidden_states=embeds, **extra).sample
        structure_unconditional, structure_conditional = output.chunk(2)

        base = structure_unconditional
        if in_span(recipe.get("noise_damping"), step, steps):
            factors = layer_factors(unet, recipe, "noise_damping", step, steps)
            with patched(unet, factors, dispersed, recipe.get("dispersion")) as strong:
                base, _ = strong(pair, timestep, encoder_hidden_states=embeds, **extra).sample.chunk(2)

        prediction = base + guidance_scale * (structure_conditional - structure_unconditional)
        latents = scheduler.step(prediction, timestep, latents, **noise).prev_sample
    return latents
