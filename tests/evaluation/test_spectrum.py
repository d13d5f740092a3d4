"""The spectrum on pictures whose spectrum is known."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageFilter

from scalecrafter.evaluation.spectrum import BINS, sharpness, spectrum


def gray(values: np.ndarray) -> Image.Image:
    return Image.fromarray(np.clip(np.rint(values), 0, 255).astype(np.uint8)).convert("RGB")


def noise(width: int = 128, height: int = 128, deviation: float = 25.0, seed: int = 0) -> Image.Image:
    return gray(np.random.default_rng(seed).normal(128, deviation, (height, width)))


@pytest.mark.parametrize("size", [(128, 128), (96, 160), (97, 131)])
def test_white_noise_has_its_variance_at_every_frequency(size: tuple[int, int]) -> None:
    found = np.mean([spectrum(noise(*size, seed=seed)).power for seed in range(12)], axis=0)
    variance = (25 / 255) ** 2
    assert found[2:] == pytest.approx(np.full(BINS - 2, variance), rel=0.35)
    assert found[2:].mean() == pytest.approx(variance, rel=0.03)
    assert spectrum(noise(*size)).top_octave == pytest.approx(variance, rel=0.1)


@pytest.mark.parametrize("size", [(64, 48), (33, 50), (17, 16)])
def test_it_is_the_mean_of_the_whole_two_dimensional_spectrum_in_each_ring(size: tuple[int, int]) -> None:
    picture = noise(*size)
    window = np.outer(np.hanning(size[1] + 2)[1:-1], np.hanning(size[0] + 2)[1:-1])
    luminance = np.asarray(picture)[..., 0] / 255
    centred = (luminance - (luminance * window).sum() / window.sum()) * window
    density = np.abs(np.fft.fft2(centred)) ** 2 / (window**2).sum()
    radius = np.hypot(np.fft.fftfreq(size[1])[:, None], np.fft.fftfreq(size[0])[None, :])
    found = spectrum(picture)
    for ring in range(BINS):
        inside = (radius >= ring / (2 * BINS)) & (radius < (ring + 1) / (2 * BINS))
        if inside.any():
            assert found.power[ring] == pytest.approx(density[inside].mean(), rel=1e-9)
    assert found.top_octave == pytest.approx(density[(radius >= 0.25) & (radius < 0.5)].mean(), rel=1e-9)


@pytest.mark.parametrize(("across", "down"), [(0.1, 0.0), (0.0, 0.3), (0.3, 0.2)])
def test_a_wave_has_its_power_at_its_frequency(across: float, down: float) -> None:
    y, x = np.mgrid[:120, :144]
    power = spectrum(gray(128 + 80 * np.sin(2 * np.pi * (across * x + down * y)))).power
    ring = int(np.hypot(across, down) * 2 * BINS)
    assert abs(int(power.argmax()) - ring) <= 1
    assert power[max(ring - 3, 0) : ring + 4].sum() > 0.97 * power.sum()


def test_a_flat_picture_holds_nothing_and_its_sharpness_is_what_rounding_hides() -> None:
    flat = spectrum(gray(np.full((64, 64), 77.0)))
    assert flat.power == pytest.approx(np.zeros(BINS), abs=1e-20)
    assert float(sharpness(flat.top_octave)) == pytest.approx(np.log2(1 / 12 / 255**2))


def test_a_ramp_does_not_count_as_texture_though_its_borders_do_not_join() -> None:
    ramp = np.linspace(0, 255, 256)[None, :].repeat(256, axis=0)
    assert spectrum(gray(ramp)).top_octave < 1 / 12 / 255**2


def test_blur_and_enlarging_lower_the_sharpness_and_noise_raises_it() -> None:
    picture = noise(128, 128, 40).filter(ImageFilter.GaussianBlur(0.7))
    blurred = picture.filter(ImageFilter.GaussianBlur(1.5))
    enlarged = picture.resize((256, 256), Image.Resampling.LANCZOS)
    noisy = gray(np.asarray(picture.convert("L"), float) + np.random.default_rng(1).normal(0, 30, (128, 128)))
    figures = [float(sharpness(spectrum(image).top_octave)) for image in (blurred, enlarged, picture, noisy)]
    assert figures[1] < figures[2] - 1
    assert figures[0] < figures[2] - 1
    assert figures[3] > figures[2] + 1


def test_only_luminance_counts() -> None:
    red = np.zeros((64, 64, 3))
    red[..., 0] = np.random.default_rng(0).normal(128, 20, (64, 64))
    assert spectrum(Image.fromarray(red.astype(np.uint8))).top_octave == pytest.approx(
        0.2126**2 * (20 / 255) ** 2, rel=0.2
    )


def test_a_picture_without_frequencies_is_refused() -> None:
    with pytest.raises(ValueError, match="16"):
        spectrum(Image.new("RGB", (64, 8)))
