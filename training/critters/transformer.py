"""The text encoder and the transformer of critters-dit, trained together on the autoencoder's latents.

FLUX.1's transformer at a small width, with flow matching (Lipman et al. 2023; Esser et al. 2024, arXiv 2403.03206): the
latents move in straight lines from the picture to noise, x = (1 − σ) · picture + σ · noise, and the transformer learns
the velocity, noise − picture.  σ is logit-normal (section 3.1 there), shifted as in sampling.  Where the noise is low,
errors in a picture's details count for more, as with the U-Net.

The schedule is FLUX.1's with its numbers of tokens divided by 16, so that at 16 times the native pixels it is
extrapolated as FLUX.1's is at 4096².
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from .denoiser import Batches, Latents, adopt_words, build_text_encoder
from .loop import Schedule, adopt, compile_blocks, train
from .teacher import Teacher
from .tokenizer import MAX_LENGTH

NATIVE_SIDE = 32
"""Latent pixels."""
_TOKENS = (16, 256)
_SHIFTS = (0.5, 1.15)
"""Numbers of tokens between which mu runs on a line, and its values there."""


@dataclass(frozen=True)
class TransformerSettings:
    heads: int = 6
    head_dim: int = 32
    double: int = 2
    """Blocks in which text and image have weights of their own."""
    single: int = 6
    """Blocks in which they share them."""
    channels: int = 4
    """Of the latents."""
    text_width: int = 128
    text_layers: int = 2
    steps: int = 20000
    batch: int = 16
    learning_rate: float = 5e-4
    muon: bool = False
    """Matrices by Muon: learns in fewer steps where a training goes on from an earlier one's end."""
    seed: int = 0
    """Of what each step draws; another for a training that goes on from an earlier one's end."""
    caption_dropout: float = 0.1
    detail_weight: float = 3.0
    """How much more an error in a detail counts, times 1 − σ."""
    hint_weight: float = 0.25
    """Of the error in the teacher's features."""


class TransformerDenoiser(nn.Module):
    """Text encoder and transformer as one module, so that one optimizer and one checkpoint hold both."""

    def __init__(self, settings: TransformerSettings, tokenizer: CLIPTokenizer, hint_channels: int = 0) -> None:
        super().__init__()
        self.text_encoder = build_text_encoder(tokenizer, settings.text_width, settings.text_layers)
        side = settings.head_dim * 7 // 32 * 2  # FLUX.1's shares of a head, 16 and twice 56 of 128
        self.transformer = FluxTransformer2DModel(
            in_channels=4 * settings.channels,
            num_layers=settings.double,
            num_single_layers=settings.single,
            attention_head_dim=settings.head_dim,
            num_attention_heads=settings.heads,
            joint_attention_dim=settings.text_width,
            pooled_projection_dim=settings.text_width,
            guidance_embeds=False,
            axes_dims_rope=(settings.head_dim - 2 * side, side, side),
        )
        self.transformer.register_to_config(sample_size=NATIVE_SIDE)
        begin_as_identity(self.transformer)
        if hint_channels:
            self.hint = nn.Linear(settings.heads * settings.head_dim, hint_channels)
            self._middle().register_forward_hook(keep_tokens)

    def _middle(self) -> nn.Module:
        blocks = self.transformer.single_transformer_blocks
        return blocks[(len(blocks) - 1) // 2]  # type: ignore[no-any-return]

    def hints(self) -> Tensor:
        """What the last call had in its middle, as the teacher's features `(batch, tokens, channels)`."""
        return self.hint(self._middle().__dict__.pop("kept")).float()  # type: ignore[no-any-return]

    def forward(self, latents: Tensor, noise_levels: Tensor, tokens: Tensor) -> Tensor:
        """Velocities `(batch, channels, height, width)` of latents at noise levels `(batch,)` between 0 and 1."""
        text = self.text_encoder(tokens)
        height, width = latents.shape[-2] // 2, latents.shape[-1] // 2
        output = self.transformer(
            hidden_states=packed(latents),
            encoder_hidden_states=text.last_hidden_state,
            pooled_projections=text.pooler_output,
            timestep=noise_levels,
            img_ids=positions(height, width).to(latents),
            txt_ids=torch.zeros(tokens.shape[1], 3).to(latents),
            return_dict=False,
        )[0]
        return unpacked(output, height, width)


def keep_tokens(block: nn.Module, _inputs: object, output: tuple[Tensor, Tensor]) -> None:
    """A hook that keeps the image tokens that a block hands on."""
    block.__dict__["kept"] = output[1]


def begin_as_identity(transformer: FluxTransformer2DModel) -> None:
    """Let every block hand on what it gets, and the output be 0 (Peebles & Xie 2023, arXiv 2212.09748, section 3.2)."""
    for name, module in transformer.named_modules():
        modulates = name.endswith(("norm.linear", "norm1.linear", "norm1_context.linear", "norm_out.linear"))
        if modulates or name == "proj_out":
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)


def packed(latents: Tensor) -> Tensor:
    """`(batch, channels, height, width)` as tokens of 2×2 latent pixels, `(batch, height · width / 4, 4 channels)`."""
    batch, channels, height, width = latents.shape
    split = latents.view(batch, channels, height // 2, 2, width // 2, 2)
    return split.permute(0, 2, 4, 1, 3, 5).reshape(batch, height * width // 4, 4 * channels)


def unpacked(tokens: Tensor, height: int, width: int) -> Tensor:
    """The inverse, for `height` × `width` tokens."""
    split = tokens.view(len(tokens), height, width, -1, 2, 2)
    return split.permute(0, 3, 1, 4, 2, 5).reshape(len(tokens), -1, 2 * height, 2 * width)


def positions(height: int, width: int) -> Tensor:
    """`(tokens, 3)`: 0, row and column of every token."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([torch.zeros_like(rows), rows, columns], dim=-1).reshape(-1, 3).float()


def build_flow_scheduler() -> FlowMatchEulerDiscreteScheduler:
    """Euler steps along the flow, shifted by the number of tokens."""
    return FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True,
        base_image_seq_len=_TOKENS[0],
        max_image_seq_len=_TOKENS[1],
        base_shift=_SHIFTS[0],
        max_shift=_SHIFTS[1],
    )


def noise_levels(places: Tensor) -> Tensor:
    """σ of places between 0 and 1 in its distribution: logit-normal, shifted as at the native size."""
    normal = math.sqrt(2) * torch.erfinv((2 * places - 1).clamp(-1 + 1e-6, 1 - 1e-6))
    drawn = normal.sigmoid()
    shift = math.exp(_SHIFTS[1])
    return shift * drawn / (1 + (shift - 1) * drawn)


def train_transformer(
    data: Sequence[Latents],
    tokenizer: CLIPTokenizer,
    scaling_factor: float,
    settings: TransformerSettings,
    checkpoint: Path,
    device: torch.device,
    dtype: torch.dtype,
    report: Callable[[str], None] = print,
    checkpoint_every: int = 250,
    on_checkpoint: Callable[[int, nn.Module], None] | None = None,
    warm_start: Path | None = None,
    compiled: bool = False,
    teacher: Path | None = None,
) -> TransformerDenoiser:
    """The trained text encoder and transformer (their moving average).

    The pictures of a batch have one shape.  `warm_start`: a diffusers folder to begin from, where names and shapes
    agree; of one with a U-Net that is the text encoder.  `teacher`: a folder with a U-Net on the same latents, whose
    velocities are learnt in the place of those of single pictures.
    """
    torch.manual_seed(1)
    taught_by = None if teacher is None else Teacher(teacher, tokenizer, device, compiled)
    model = TransformerDenoiser(settings, tokenizer, taught_by.channels if taught_by else 0)
    if warm_start is not None:
        known = CLIPTextModel.from_pretrained(warm_start / "text_encoder")
        missing = adopt(model.text_encoder, known)
        adopt_words(model.text_encoder, tokenizer, known, CLIPTokenizer.from_pretrained(warm_start / "tokenizer"))
        if (warm_start / "transformer").is_dir():
            missing += adopt(model.transformer, FluxTransformer2DModel.from_pretrained(warm_start / "transformer"))
        report(f"begun from {warm_start}" + (f", but for {', '.join(missing)}" if missing else ""))
    model = model.to(device)
    if compiled:
        compile_blocks(model)
    report(f"critters-dit: {sum(value.numel() for value in model.transformer.parameters()) / 1e6:.2f} M parameters")
    batches = Batches(data, tokenizer, scaling_factor, settings.batch, settings.caption_dropout, device, settings.seed)

    def step_loss(step: int) -> Tensor:
        batch = batches(step)
        levels = noise_levels(batch.places)
        share = levels[:, None, None, None]
        noisy, velocity = (1 - share) * batch.clean + share * batch.noise, batch.noise - batch.clean
        output = model(noisy, levels, batch.tokens).float()
        apart = levels.new_zeros(())
        if taught_by is not None:
            lesson = taught_by(noisy, levels, batch.tokens)
            velocity = torch.where(lesson.known[:, None, None, None], lesson.velocity, velocity)
            missed = (model.hints() - lesson.features).square().mean(dim=(1, 2))
            apart = missed[lesson.known].sum() / lesson.known.sum().clamp(min=1)
        near = batch.details * (1 - levels)[:, None, None]
        error = (output - velocity).square().mean(dim=1) * (1.0 + settings.detail_weight * near)
        return error.mean() + settings.hint_weight * apart

    schedule = Schedule(
        settings.steps,
        settings.learning_rate,
        average=0.999,
        checkpoint_every=min(checkpoint_every, settings.steps),
        muon=settings.muon,
    )
    return train(model, step_loss, schedule, checkpoint, device, dtype, report, on_checkpoint)  # type: ignore[return-value]


def assemble_transformer(
    vae: AutoencoderKL, denoiser: TransformerDenoiser, tokenizer: CLIPTokenizer, scaling_factor: float
) -> FluxPipeline:
    """An ordinary FLUX.1 pipeline of the trained parts; one text encoder stands in both of its places."""
    vae.register_to_config(scaling_factor=scaling_factor, shift_factor=0.0)
    text_encoder = denoiser.text_encoder.eval()
    pipe = FluxPipeline(
        scheduler=build_flow_scheduler(),
        vae=vae.eval(),
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        text_encoder_2=text_encoder,
        tokenizer_2=tokenizer,
        transformer=denoiser.transformer.eval(),
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


PREVIEW_CALL: dict[str, Any] = {"true_cfg_scale": 3.0, "negative_prompt": " ", "max_sequence_length": MAX_LENGTH}
"""Guided, and with as many words as the text encoder reads."""
