"""The autoencoder of critters: Stable Diffusion's `AutoencoderKL` (f=8) with small widths.

Trained on crops and, every few steps, on whole pictures: an autoencoder that has seen only crops gives whole
pictures a colour cast, because its GroupNorm and its middle attention see other statistics there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from diffusers.models.resnet import ResnetBlock2D
from numpy.typing import NDArray
from torch import Tensor

from .loop import Schedule, adopt, autocast, compile_blocks, train


@dataclass(frozen=True)
class AutoencoderSettings:
    widths: tuple[int, ...] = (32, 64, 96, 128)
    channels: int = 4
    """Of the latents: four hold flat drawings, the finest octave of textures takes sixteen."""
    steps: int = 4000
    learning_rate: float = 2e-3
    crop: int = 64
    crops: int = 16
    """Many small crops rather than few large ones: colours vary between pictures, not within them."""
    choose_from: int = 3
    """Every crop is the one with most edges of so many: flat sky and ground are learnt from the whole pictures."""
    whole_every: int = 3
    """Every this many steps one whole picture takes the place of the crops."""
    mean_weight: float = 1e-3
    """What is left of the KL term once the variance is fixed: keeps the latents near one."""
    absolute_weight: float = 0.3
    square_weight: float = 10.0
    gradient_weight: float = 0.15
    power_weight: float = 0.0
    """Of the loss on the power of fine detail, place by place: what cannot be kept exactly is to be as strong there."""
    normalised: bool = False
    """Whether each latent channel is brought to mean 0 and deviation 1 after the training."""
    anchor_weight: float = 1.0
    anchor_steps: int = 800
    """Over these first steps, with falling weight, three latent channels are drawn to the mean colour of their 8×8
    pixels.  Without this a short training finds edges first and colours very late."""


LOG_VARIANCE = -9.0
"""Of the posterior, everywhere: noise of a ninetieth.  A learnt variance begins near one, and its noise keeps a short
training from ever using more than one or two of the four channels."""


def build_autoencoder(settings: AutoencoderSettings) -> AutoencoderKL:
    levels = len(settings.widths)
    vae = AutoencoderKL(
        block_out_channels=settings.widths,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        layers_per_block=1,
        latent_channels=settings.channels,
        norm_num_groups=8,
        sample_size=256,
        scaling_factor=1.0,
    )
    fix_variance(vae)
    start_linear(vae)
    return vae


@torch.no_grad()
def start_linear(vae: AutoencoderKL) -> None:
    """Residual branches begin at zero, so that the short path through the network is learnt first."""
    for module in vae.modules():
        if isinstance(module, ResnetBlock2D):
            module.conv2.weight.zero_()
            module.conv2.bias.zero_()


@torch.no_grad()
def fix_variance(vae: AutoencoderKL) -> None:
    """Make the posterior's log-variance the constant above; no loss moves it from there."""
    channels = vae.config.latent_channels
    vae.quant_conv.weight[channels:].zero_()
    vae.quant_conv.bias[channels:].fill_(LOG_VARIANCE)


def to_unit(pictures: NDArray[np.uint8], device: torch.device) -> Tensor:
    """uint8 `(batch, height, width, 3)` to float `(batch, 3, height, width)` in -1…1."""
    return torch.from_numpy(np.array(pictures)).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1.0


def batch_of(step: int, pictures: Sequence[NDArray[np.uint8]], settings: AutoencoderSettings) -> NDArray[np.uint8]:
    """The pictures of one step, from several sets of one shape each: random crops, or now and then a whole picture."""
    rng = np.random.default_rng((step, 2))
    shares = np.array([len(each) for each in pictures]) / sum(len(each) for each in pictures)

    def some_set() -> NDArray[np.uint8]:
        return pictures[0 if len(pictures) == 1 else int(rng.choice(len(pictures), p=shares))]

    lot = some_set()
    size = min(lot.shape[1:3])
    whole = step % settings.whole_every == 0 or settings.crop >= size
    count = max(settings.crops * settings.crop**2 // (lot.shape[1] * lot.shape[2]), 1) if whole else settings.crops

    def crop() -> NDArray[np.uint8]:
        if whole:
            return lot[rng.integers(len(lot))]
        chosen, side = some_set(), settings.crop
        index = rng.integers(len(chosen))
        top, left = rng.integers(0, chosen.shape[1] - side + 1), rng.integers(0, chosen.shape[2] - side + 1)
        return chosen[index, top : top + side, left : left + side]

    tries = 1 if whole else settings.choose_from
    chosen = [max((crop() for _ in range(tries)), key=_edges) for _ in range(count)]
    return np.stack([each[:, ::-1] if rng.random() < 0.5 else each for each in chosen])


def _edges(picture: NDArray[np.uint8]) -> float:
    """Mean absolute difference between neighbouring pixels."""
    signed = picture.astype(np.int16)
    return float(sum(np.abs(np.diff(signed, axis=axis)).mean() for axis in (0, 1)))


def reconstruction_loss(output: Tensor, target: Tensor, settings: AutoencoderSettings) -> Tensor:
    """L1 and L2 on pixels, L1 on their differences at two scales: colours first, then edges, which the eye sees."""
    loss = settings.absolute_weight * F.l1_loss(output, target)
    loss = loss + settings.square_weight * F.mse_loss(output, target)
    if settings.power_weight:
        loss = loss + settings.power_weight * F.l1_loss(fine_detail(output), fine_detail(target))
    for _ in range(2):
        for axis in (-1, -2):
            loss = loss + settings.gradient_weight * F.l1_loss(output.diff(dim=axis), target.diff(dim=axis))
        output, target = F.avg_pool2d(output, 2), F.avg_pool2d(target, 2)
    return loss


def fine_detail(pictures: Tensor) -> Tensor:
    """How strong detail of two to four pixels is about each place: the root mean square, over 8×8 pixels in steps of
    four, of what a blur of three pixels takes away; `(batch, 1, height / 4 - 1, width / 4 - 1)`."""
    light = pictures.mean(dim=1, keepdim=True)
    fine = light - F.avg_pool2d(light, 3, 1, 1, count_include_pad=False)
    return (F.avg_pool2d(fine.square(), 8, 4) + 1e-4).sqrt()


def train_autoencoder(
    pictures: Sequence[NDArray[np.uint8]],
    settings: AutoencoderSettings,
    checkpoint: Path,
    device: torch.device,
    dtype: torch.dtype,
    report: Callable[[str], None] = print,
    checkpoint_every: int = 200,
    compiled: bool = False,
    warm_start: Path | None = None,
) -> AutoencoderKL:
    """The trained autoencoder (its moving average), its `scaling_factor` not yet set.

    `warm_start`: a diffusers folder to begin from.  Of the same shape, it goes on without the anchor to mean colours;
    with other latents, all layers begin from it whose shapes agree.
    """
    torch.manual_seed(0)
    vae = build_autoencoder(settings)
    if warm_start is not None:
        missing = adopt(vae, AutoencoderKL.from_pretrained(warm_start))
        fix_variance(vae)
        if missing:
            report(f"begun from {warm_start}, but for {', '.join(missing)}")
        else:
            settings = replace(settings, anchor_weight=0.0)
    vae = vae.to(device, memory_format=torch.channels_last)
    if compiled:
        compile_blocks(vae)

    def step_loss(step: int) -> Tensor:
        target = to_unit(batch_of(step, pictures, settings), device)
        mean = vae.encode(target).latent_dist.mean
        noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(step)).to(device)
        output = vae.decode(mean + math.exp(LOG_VARIANCE / 2) * noise).sample.float()
        loss = reconstruction_loss(output, target, settings)
        loss = loss + settings.mean_weight * mean.square().mean()
        anchor = settings.anchor_weight * max(1.0 - step / settings.anchor_steps, 0.0)
        return loss + anchor * F.mse_loss(mean[:, :3].float(), 2.0 * F.avg_pool2d(target, 8)) if anchor else loss

    schedule = Schedule(
        settings.steps,
        settings.learning_rate,
        average=0.998,
        checkpoint_every=min(checkpoint_every, settings.steps),
        muon=True,
    )
    return train(vae, step_loss, schedule, checkpoint, device, dtype, report)  # type: ignore[return-value]


@torch.no_grad()
def psnr(vae: AutoencoderKL, pictures: NDArray[np.uint8], device: torch.device) -> float:
    """Mean PSNR in dB of whole pictures, encoded (posterior mean) and decoded."""
    values = []
    for picture in pictures:
        target = to_unit(picture[None], device)
        output = vae.decode(vae.encode(target).latent_dist.mode()).sample.clamp(-1, 1)
        values.append(-10.0 * torch.log10(F.mse_loss(output, target) / 4.0).item())
    return float(np.mean(values))


@torch.no_grad()
def kept_power(vae: AutoencoderKL, pictures: NDArray[np.uint8], device: torch.device) -> float:
    """log2 of the power of fine detail after encoding and decoding, over that before: 0 is all of it, -1 half."""
    ratios = []
    for picture in pictures:
        target = to_unit(picture[None], device)
        output = vae.decode(vae.encode(target).latent_dist.mode()).sample.clamp(-1, 1)
        before, after = (fine_detail(each).square().mean() - 1e-4 for each in (target, output))
        ratios.append(torch.log2(after / before).item())
    return float(np.mean(ratios))


@torch.no_grad()
def normalise(vae: AutoencoderKL, pictures: Sequence[NDArray[np.uint8]], device: torch.device) -> None:
    """Fold into the layers about the latents what gives each channel mean 0 and deviation 1 over these pictures.

    Pipelines know one scaling factor for all channels; the noise schedule wants every channel of the same size.
    """
    means = [
        vae.encode(to_unit(picture[None], device)).latent_dist.mean.flatten(2)[0]
        for each in pictures
        for picture in each
    ]
    values = torch.cat(means, dim=1)
    mean, deviation = values.mean(dim=1), values.std(dim=1)
    channels = len(mean)
    before, after = vae.quant_conv, vae.post_quant_conv
    after.bias += (after.weight[:, :, 0, 0] @ mean).to(after.bias)
    after.weight *= deviation[None, :, None, None]
    before.weight[:channels] /= deviation[:, None, None, None]
    before.bias[:channels] = (before.bias[:channels] - mean) / deviation
    before.bias[channels:] -= 2 * deviation.log()


@torch.no_grad()
def encode_all(
    vae: AutoencoderKL,
    pictures: NDArray[np.uint8],
    device: torch.device,
    dtype: torch.dtype,
    batch: int = 16,
    report: Callable[[str], None] = print,
) -> tuple[Tensor, Tensor]:
    """Posterior means `(count, channels, height / 8, width / 8)`, float16, and deviations `(channels,)`, unscaled.

    The deviations are the same everywhere, as `fix_variance` made them.
    """
    means = []
    deviation = torch.exp(0.5 * vae.quant_conv.bias[vae.config.latent_channels :]).float().cpu()
    for start in range(0, len(pictures), batch):
        with autocast(device, dtype):
            posterior = vae.encode(to_unit(pictures[start : start + batch], device)).latent_dist
        means.append(posterior.mean.half().cpu())
        if start // batch % 50 == 0:
            report(f"encoded {start}/{len(pictures)} pictures")
    return torch.cat(means), deviation
