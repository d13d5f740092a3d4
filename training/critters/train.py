"""The one command that makes critters: `python -m training.critters.train`.

Draws the pictures, trains the autoencoder, encodes, trains text encoder and U-Net, and writes the diffusers
folder.  Every stage is skipped when its result is there already and resumed where it stopped otherwise.
With `--architecture dit` a transformer is trained in the place of the U-Net: critters-dit.  In the folder of another
run it begins with that one's latents; `--teacher FOLDER` lets it learn from a U-Net's answers, which takes fewer steps.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from torch import nn
from transformers import CLIPTokenizer

from .autoencoder import (
    AutoencoderSettings,
    build_autoencoder,
    encode_all,
    kept_power,
    normalise,
    psnr,
    train_autoencoder,
)
from .captions import vocabulary
from .data import HELD_OUT_SEED, captions_of, details, renders, shapes_of
from .denoiser import Denoiser, DenoiserSettings, Latents, tokenize, train_denoiser
from .export import DETAILED_PREVIEW_PROMPTS, PREVIEW_PROMPTS, assemble, export, preview
from .loop import pick_device, pick_precision, save_atomically
from .scene import SHIPPED_WORLD, WORLDS
from .tokenizer import build_tokenizer
from .transformer import (
    PREVIEW_CALL,
    TransformerDenoiser,
    TransformerSettings,
    assemble_transformer,
    train_transformer,
)


@dataclass(frozen=True)
class Settings:
    world: str = SHIPPED_WORLD
    scenes: int = 10000
    held_out: int = 16
    workers: int = 2
    preview_steps: int = 25
    autoencoder: AutoencoderSettings = field(default_factory=AutoencoderSettings)
    denoiser: DenoiserSettings = field(default_factory=DenoiserSettings)
    transformer: TransformerSettings = field(default_factory=TransformerSettings)


DETAILED = Settings(
    world="detailed",
    autoencoder=AutoencoderSettings(channels=16, power_weight=1.0, normalised=True),
    denoiser=DenoiserSettings(channels=16),
    transformer=TransformerSettings(channels=16),
)
"""Of the detailed world."""

SMOKE = Settings(
    scenes=8,
    held_out=2,
    workers=1,
    preview_steps=2,
    autoencoder=AutoencoderSettings(widths=(8, 8, 8, 8), steps=2, crops=2, crop=64),
    denoiser=DenoiserSettings(widths=(16, 16, 16, 16), text_width=16, text_layers=1, steps=2, batch=2),
    transformer=TransformerSettings(
        heads=2, head_dim=16, double=1, single=1, text_width=16, text_layers=1, steps=2, batch=2
    ),
)
"""A run of seconds through every stage; its model is noise."""


def run(
    settings: Settings,
    out: Path,
    device: torch.device,
    dtype: torch.dtype,
    export_to: Path | None = None,
    checkpoint_every: int = 250,
    preview_every: int = 1000,
    warm_start: Path | None = None,
    compiled: bool = False,
    architecture: str = "unet",
    teacher: Path | None = None,
) -> Path:
    """All stages; returns the diffusers folder.  `architecture` is "unet" or "dit", which a `teacher` may teach.

    With `warm_start` (a folder that an earlier run wrote) all networks go on from there; one that is given 0
    steps stays as it is.
    """
    out.mkdir(parents=True, exist_ok=True)

    def report(line: str) -> None:
        stamped = f"{time.strftime('%H:%M:%S')} {line}"
        print(stamped, flush=True)
        with (out / "log.txt").open("a") as log:
            log.write(stamped + "\n")

    world, shapes = settings.world, shapes_of(range(settings.scenes), settings.world)
    pictures = [
        renders(out / f"renders-{shape[0]}x{shape[1]}.npy", seeds, shape, world, settings.workers, report)
        for shape, seeds in shapes.items()
    ]
    kept = range(HELD_OUT_SEED, HELD_OUT_SEED + settings.held_out)
    held_out = renders(out / "held_out.npy", kept, world=world, workers=1, report=report)
    tokenizer = _tokenizer(out / "tokenizer", world, warm_start)

    vae = _autoencoder(settings, pictures, out, device, dtype, report, checkpoint_every, compiled, warm_start)
    report(
        f"autoencoder: {psnr(vae, held_out, device):.2f} dB PSNR, log2 of the fine detail's power "
        f"{kept_power(vae, held_out, device):+.2f}, on {len(held_out)} held-out pictures"
    )

    encoded = out / "latents.pt"
    if not encoded.exists():
        sets = []
        for (shape, seeds), block in zip(shapes.items(), pictures, strict=True):
            means, deviation = encode_all(vae, block, device, dtype, report=report)
            tokens = torch.stack([tokenize(tokenizer, captions_of(seed, world)) for seed in seeds])
            near = torch.from_numpy(details(seeds, shape, world, settings.workers))
            sets.append({"means": means, "deviation": deviation, "tokens": tokens, "details": near})
        save_atomically(sets, encoded)
    data = [Latents(**each) for each in torch.load(encoded, weights_only=True)]
    if warm_start is not None and settings.autoencoder.steps == 0:
        scaling_factor = float(vae.config.scaling_factor)  # that the earlier denoiser knows
    else:
        spread = torch.cat([each.means.float().flatten() for each in data]).std().item()
        scaling_factor = round(1.0 / spread, 5)
    report(f"latents: {sum(len(each.means) for each in data)}, scaling factor {scaling_factor}")

    prompts = DETAILED_PREVIEW_PROMPTS if world == "detailed" else PREVIEW_PROMPTS
    folder = export_to or out / ("critters" if architecture == "unet" else "critters-dit")
    if architecture == "dit":

        def look_at(step: int, average: nn.Module) -> None:
            if step % preview_every == 0:
                assert isinstance(average, TransformerDenoiser)
                pipe = assemble_transformer(vae, average, tokenizer, scaling_factor)
                path = out / f"preview-dit-{step:06d}.png"
                preview(pipe, path, steps=settings.preview_steps, prompts=prompts, call=PREVIEW_CALL)

        trained = train_transformer(
            data, tokenizer, scaling_factor, settings.transformer, out / "denoiser-dit.pt", device, dtype, report,
            checkpoint_every, look_at, warm_start, compiled, teacher,
        )  # fmt: skip
        size = export(assemble_transformer(vae, trained, tokenizer, scaling_factor), folder)
        report(f"wrote {folder}: {size / 1e6:.1f} MB of weights")
        return folder

    def look(step: int, average: nn.Module) -> None:
        if step % preview_every == 0:
            assert isinstance(average, Denoiser)
            pipe = assemble(vae, average, tokenizer, scaling_factor)
            preview(pipe, out / f"preview-{step:06d}.png", steps=settings.preview_steps, prompts=prompts)

    denoiser = train_denoiser(
        data,
        tokenizer,
        scaling_factor,
        settings.denoiser,
        out / "denoiser.pt",
        device,
        dtype,
        report,
        checkpoint_every,
        look,
        warm_start,
        compiled,
    )
    size = export(assemble(vae, denoiser, tokenizer, scaling_factor), folder)
    report(f"wrote {folder}: {size / 1e6:.1f} MB of weights")
    return folder


def _tokenizer(folder: Path, world: str, warm_start: Path | None) -> CLIPTokenizer:
    """One of the captions' words: an earlier model's if it knows them all, else built anew.

    It belongs to the text encoder: built anew, a few tokens of equal merit may change their places.
    """
    words = vocabulary(world)
    if warm_start is not None:
        tokenizer = CLIPTokenizer.from_pretrained(warm_start / "tokenizer")
        if all(len(tokenizer(word)["input_ids"]) == 3 for word in words):
            return tokenizer  # type: ignore[no-any-return]
    if (folder / "tokenizer_config.json").exists():
        return CLIPTokenizer.from_pretrained(folder)  # type: ignore[no-any-return]
    return build_tokenizer(words, folder)


_LOOKED_AT = 40
"""Pictures of each shape from which the latents' spread is known."""


def _autoencoder(
    settings: Settings,
    pictures: list[NDArray[np.uint8]],
    out: Path,
    device: torch.device,
    dtype: torch.dtype,
    report: Callable[[str], None],
    every: int,
    compiled: bool,
    warm_start: Path | None,
) -> AutoencoderKL:
    if warm_start is not None and settings.autoencoder.steps == 0:
        return AutoencoderKL.from_pretrained(warm_start / "vae").to(device)
    done = out / "autoencoder-done.pt"
    if done.exists():
        vae = build_autoencoder(settings.autoencoder).to(device)
        vae.load_state_dict(torch.load(done, map_location=device, weights_only=True))
        return vae
    checkpoint, start = out / "autoencoder.pt", warm_start / "vae" if warm_start else None
    vae = train_autoencoder(pictures, settings.autoencoder, checkpoint, device, dtype, report, every, compiled, start)
    if settings.autoencoder.normalised:
        normalise(vae, [each[:_LOOKED_AT] for each in pictures], device)
    save_atomically(vae.state_dict(), done)
    return vae


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/critters"), help="checkpoints, logs and previews")
    parser.add_argument("--export-to", type=Path, help="where the diffusers folder goes (default: OUT/critters)")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto", choices=["auto", "fp32", "bf16"])
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument("--world", default=SHIPPED_WORLD, choices=WORLDS, help="which scenes (default: %(default)s)")
    parser.add_argument("--scenes", type=int)
    parser.add_argument("--architecture", default="unet", choices=["unet", "dit"], help="dit: critters-dit")
    parser.add_argument("--workers", type=int, help="processes that draw scenes")
    parser.add_argument("--autoencoder-steps", type=int, help="with --warm-start, 0 keeps its autoencoder as it is")
    parser.add_argument("--denoiser-steps", type=int)
    parser.add_argument("--denoiser-batch", type=int, help="latents a step; a GPU is busy with some hundreds")
    parser.add_argument("--denoiser-rate", type=float, help="learning rate of the denoiser's training at its highest")
    parser.add_argument("--denoiser-muon", action="store_true", help="Muon in the place of AdamW (see optimizer.py)")
    parser.add_argument("--denoiser-seed", type=int, help="another than the run had that --warm-start goes on from")
    parser.add_argument("--warm-start", type=Path, help="a folder that an earlier run wrote, to go on from")
    parser.add_argument("--teacher", type=Path, help="dit: a folder with a U-Net to learn from")
    parser.add_argument("--compile", action="store_true", help="needs a C++ compiler; a CPU's steps faster")
    parser.add_argument("--smoke", action="store_true", help="seconds through every stage; the model is noise")
    options = parser.parse_args(arguments)
    if options.teacher and options.architecture != "dit":
        parser.error("--teacher goes with --architecture dit")
    if options.threads:
        torch.set_num_threads(options.threads)
    settings = DETAILED if options.world == "detailed" else Settings()
    if options.smoke:
        settings = replace(
            SMOKE,
            world=options.world,
            autoencoder=replace(SMOKE.autoencoder, channels=settings.autoencoder.channels),
            denoiser=replace(SMOKE.denoiser, channels=settings.denoiser.channels),
            transformer=replace(SMOKE.transformer, channels=settings.denoiser.channels),
        )
    if options.scenes:
        settings = replace(settings, scenes=options.scenes)
    if options.workers:
        settings = replace(settings, workers=options.workers)
    if options.autoencoder_steps is not None:
        settings = replace(settings, autoencoder=replace(settings.autoencoder, steps=options.autoencoder_steps))
    chosen = {
        "steps": options.denoiser_steps,
        "batch": options.denoiser_batch,
        "learning_rate": options.denoiser_rate,
        "muon": options.denoiser_muon or None,
        "seed": options.denoiser_seed,
    }
    settings = _of_denoisers(settings, **{name: value for name, value in chosen.items() if value is not None})
    device = pick_device(options.device)
    run(
        settings,
        options.out,
        device,
        pick_precision(device, options.precision),
        options.export_to,
        warm_start=options.warm_start,
        compiled=options.compile,
        architecture=options.architecture,
        teacher=options.teacher,
    )


def _of_denoisers(settings: Settings, **values: Any) -> Settings:
    """The settings of both denoisers with other values."""
    return replace(
        settings,
        denoiser=replace(settings.denoiser, **values),
        transformer=replace(settings.transformer, **values),
    )


if __name__ == "__main__":
    main()
