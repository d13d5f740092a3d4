"""Tiles give the result of the whole: decoding, encoding, odd sizes, batches, precisions, and both kinds of VAE."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from scalecrafter.vae import apply_vae_memory, decode_memory, remove_vae_memory, vae_memory_applied
from tests.support.vaes import difference, noise, sd_vae, tiny_autoencoder

pytestmark = pytest.mark.sampled

TILES = [(64, 64), (40, 72), (32, 10_000)]
LIMIT = 1e-4


@pytest.fixture(scope="module")
def vae() -> Any:
    return sd_vae()


def decoded(vae: Any, latents: Tensor) -> Tensor:
    return vae.decode(latents, return_dict=False)[0]


def encoded(vae: Any, image: Tensor) -> Tensor:
    given = vae.encode(image, return_dict=False)[0]
    return given if isinstance(given, Tensor) else given.parameters


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("size", [(24, 24), (17, 29)])
def test_a_tiled_decode_is_the_whole_decode(vae: Any, tile: Any, size: tuple[int, int]) -> None:
    latents = noise(1, 4, *size)
    whole = decoded(vae, latents)
    with vae_memory_applied(vae, "1GiB", tile=tile):
        assert difference(decoded(vae, latents), whole) < LIMIT


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("size", [(192, 192), (139, 237)])
def test_a_tiled_encode_is_the_whole_encode(vae: Any, tile: Any, size: tuple[int, int]) -> None:
    image = noise(1, 3, *size)
    whole = encoded(vae, image)
    with vae_memory_applied(vae, "1GiB", tile=tile):
        assert difference(encoded(vae, image), whole) < LIMIT


@pytest.mark.parametrize("slicing", [False, True])
def test_every_sample_of_a_batch_has_its_own_statistics(vae: Any, slicing: bool) -> None:
    latents = noise(3, 4, 16, 16) * torch.tensor([1.0, 3.0, 0.2]).view(3, 1, 1, 1)
    whole = decoded(vae, latents)
    vae.use_slicing = slicing
    with vae_memory_applied(vae, "1GiB", tile=(48, 48)):
        tiled = decoded(vae, latents)
    vae.use_slicing = False
    assert all(difference(one, other) < LIMIT for one, other in zip(tiled, whole, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "limit"), [(torch.bfloat16, 0.06), (torch.float16, 0.01)])
def test_half_precision_is_as_near_to_float32_as_the_whole_in_half_precision(dtype: torch.dtype, limit: float) -> None:
    latents = noise(1, 4, 16, 16)
    exact = decoded(sd_vae(), latents)
    half = sd_vae().to(dtype)
    whole = decoded(half, latents.to(dtype))
    apply_vae_memory(half, "1GiB", tile=(64, 64))
    tiled = decoded(half, latents.to(dtype))
    assert tiled.dtype is dtype
    assert difference(tiled, exact) < max(1.5 * difference(whole, exact), 1e-3)
    assert difference(tiled, exact) < limit


def test_encoding_and_decoding_again_is_the_untiled_round_trip(vae: Any) -> None:
    image = noise(1, 3, 128, 160)
    whole = vae(image).sample
    with vae_memory_applied(vae, "1GiB", tile=(64, 64)):
        assert difference(vae(image).sample, whole) < LIMIT


@pytest.mark.parametrize("size", [(16, 16), (11, 19)])
def test_the_tiny_autoencoder_is_exact_too(size: tuple[int, int]) -> None:
    tiny = tiny_autoencoder()
    latents, image = 3 * noise(2, 4, *size), noise(1, 3, 8 * size[0], 8 * size[1])
    whole, code = decoded(tiny, latents), encoded(tiny, image)
    apply_vae_memory(tiny, "1GiB", tile=(48, 48))
    assert difference(decoded(tiny, latents), whole) < LIMIT
    assert difference(encoded(tiny, image), code) < LIMIT


def test_diffusers_own_tiling_is_not(vae: Any) -> None:
    """What the tests above would see if halo, statistics or attention were those of a tile."""
    latents = noise(1, 4, 24, 24) + torch.linspace(-3, 3, 24)
    whole = decoded(vae, latents)
    vae.enable_tiling()
    theirs = decoded(vae, latents)
    with vae_memory_applied(vae, "1GiB", tile=(64, 64)):
        ours = decoded(vae, latents)
    vae.disable_tiling()
    assert difference(theirs, whole) > 0.01
    assert difference(ours, whole) < LIMIT


@pytest.mark.slow
@pytest.mark.parametrize("budget", ["2MiB", "3MiB", "5MiB", "10MiB"])
def test_every_way_of_saving_memory_is_exact(vae: Any, budget: str) -> None:
    """Small budgets compute maps again rather than let them wait; large ones let two wait."""
    latents = noise(1, 4, 24, 16)
    whole = decoded(vae, latents)
    _, plan = decode_memory(vae, 192, 128, budget)
    assert plan is not None
    assert plan.peak <= int(budget.removesuffix("MiB")) << 20
    with vae_memory_applied(vae, budget):
        assert difference(decoded(vae, latents), whole) < LIMIT


def test_plans_differ_in_what_waits(vae: Any) -> None:
    plans = [decode_memory(vae, 192, 128, budget)[1] for budget in ("2MiB", "3MiB", "10MiB")]
    lengths = [len(plan.spans) for plan in plans if plan]
    assert lengths[0] < lengths[1] <= lengths[2]  # fewer maps wait
    costs = [plan.cost for plan in plans if plan]
    assert costs[0] > costs[1] > costs[2]  # and that costs time
    assert any(span.inner for span in plans[2].spans)  # type: ignore[union-attr]


def test_a_vae_with_hooked_layers_calls_them(vae: Any) -> None:
    """Layers are called as modules (offloading and adapters live there), the enlarging ones too."""
    latents = noise(1, 4, 16, 16)
    whole = decoded(vae, latents)
    seen: set[str] = set()

    def remember(name: str) -> Any:
        return lambda *_: seen.add(name)

    layers = {name: one for name, one in vae.decoder.named_modules() if isinstance(one, (nn.Conv2d, nn.Linear))}
    handles = [layer.register_forward_hook(remember(name)) for name, layer in layers.items()]
    with vae_memory_applied(vae, "1GiB", tile=(64, 64)):
        tiled = decoded(vae, latents)
    for handle in handles:
        handle.remove()
    assert difference(tiled, whole) < LIMIT
    assert seen == set(layers)


def test_a_flat_map_has_variance_zero() -> None:
    """Statistics of large means with small deviations: no cancellation."""
    from scalecrafter.vae.moments import Moments

    values = 1000 + 0.01 * noise(1, 8, 300, 200)
    moments = Moments()
    for part in values.split(70, dim=2):
        moments.add(part)
    mean, variance = moments.of_groups(4)
    exact = values.double().view(4, -1)
    torch.testing.assert_close(mean[::2].double(), exact.mean(1), rtol=1e-6, atol=0)
    torch.testing.assert_close(variance[::2].double(), exact.var(1, correction=0), rtol=1e-2, atol=0)
    remove_vae_memory(None)  # nothing applied, nothing to do


@pytest.mark.parametrize("first", [0, 1, 2, 3])
def test_an_enlarged_convolution_is_enlargement_and_convolution(first: int) -> None:
    from scalecrafter.vae.operations import enlarged, enlarged_convolution

    convolution = nn.Conv2d(5, 7, 3, padding=1)
    values = noise(2, 5, 6, 9)
    rows, columns = slice(first, 12 - first // 2), slice(first // 2, 18 - first)
    with torch.no_grad():
        whole = convolution(enlarged(values, 2))[:, :, rows, columns]
        torch.testing.assert_close(enlarged_convolution(values, convolution, rows, columns), whole)
