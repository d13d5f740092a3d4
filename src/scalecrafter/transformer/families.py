"""The families of diffusion transformers: one entry each, with all that differs between them.

A family is known by its parts and by what its `forward` takes, never by a name.  diffusers' classes are not imported:
older releases lack some of them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from .._util.sizes import GridSize

Embedding = Literal["ids", "shapes", "look-up", "grid", "table"]
"""How positions are computed: rotary from ids that the pipeline passes, from the shapes of the images, by a look-up
of whole ids, from the grid of the latents; or a table of sines that is added once."""
_MEGAPIXEL = GridSize(64, 64)
"""1024² pixels, at 16 to a token."""
ROTARY_SECTIONS = frozenset({"positions", "attention", "schedule"})


@dataclass(frozen=True)
class TransformerFamily:
    """One family of diffusion transformers."""

    name: str
    """As recipes write it."""
    takes: frozenset[str]
    """Parameters that its `forward` has."""
    part: str
    """The path of what tells the family, below the transformer."""
    has: tuple[str, ...]
    """Attributes of that part."""
    lacks: tuple[str, ...] = ()
    """Attributes of it that only a relative has."""
    axes: int | None = None
    """Rotary axes, where their number tells two families apart."""
    embedding: Embedding | None = None
    """How positions are computed; None where there are none to scale.  `part` is then where."""
    sections: frozenset[str] = ROTARY_SECTIONS
    """Sections of a recipe that it has a use for."""
    attention: str = r"(single_)?transformer_blocks\.\d+\.attn2?"
    """Paths of the attention that sees image tokens, as a regular expression."""
    native: GridSize = _MEGAPIXEL
    """Image tokens of its trained size, where neither config nor pipeline says."""
    pixels: int = 16
    """Image pixels to a token along each axis, where no pipeline says."""
    latents: int | None = 2
    """Latent pixels to a token along each axis; None reads `patch_size` in the config."""
    packed: bool = False
    """Whether its pipelines hold latents as tokens, each with the 2×2 latent pixels that it stands for."""
    timestep: Callable[[float], float] = lambda t: t
    """The scheduler's timestep (0…1000) from what the transformer gets."""
    draws_unhelped: float = 1.1
    """Up to this many times its native tokens it draws well alone; the automatic recipe leaves it so."""
    starts_from_pictures: bool = True
    """Whether diffusers has a pipeline for it that starts from a picture with a strength."""
    empirical_shift: bool = False
    """Whether its pipeline's mu comes from `compute_empirical_mu`, rather than off a line."""

    def matches(self, transformer: Any) -> bool:
        """Whether a module is a transformer, or a ControlNet, of this family."""
        part = part_at(transformer, self.part)
        return (
            part is not None
            and self.takes <= set(inspect.signature(type(transformer).forward).parameters)
            and all(hasattr(part, name) for name in self.has)
            and not any(hasattr(part, name) for name in self.lacks)
            and (self.axes is None or len(part.axes_dim) == self.axes)
        )


def part_at(module: Any, path: str) -> Any:
    """The part of a module at a path; None where there is none."""
    for name in path.split("."):
        if name.isdecimal():
            module = module[int(name)] if len(module) > int(name) else None
        else:
            module = getattr(module, name, None)
        if module is None:
            return None
    return module


def transformer_family(transformer: Any) -> TransformerFamily | None:
    """The family of a module; None if it is none of those known."""
    if not hasattr(transformer, "named_modules"):  # no module
        return None
    return next((family for family in TRANSFORMERS.values() if family.matches(transformer)), None)


_ALL = (
    TransformerFamily(
        name="flux",  # FLUX.1, Chroma, Ovis-Image, LongCat-Image
        takes=frozenset({"hidden_states", "timestep", "img_ids", "txt_ids"}),
        part="pos_embed",
        has=("theta", "axes_dim"),
        axes=3,
        embedding="ids",
        packed=True,
        timestep=lambda t: t * 1000,
        draws_unhelped=2.0,  # FLUX.1's model card: up to two megapixels
    ),
    TransformerFamily(
        name="flux2",
        takes=frozenset({"hidden_states", "timestep", "img_ids", "txt_ids"}),
        part="pos_embed",
        has=("theta", "axes_dim"),
        axes=4,
        embedding="ids",
        packed=True,
        timestep=lambda t: t * 1000,
        draws_unhelped=4.0,  # its model card: up to four megapixels
        starts_from_pictures=False,
        empirical_shift=True,
    ),
    TransformerFamily(
        name="qwen-image",
        takes=frozenset({"hidden_states", "timestep", "img_shapes"}),
        part="pos_embed",
        has=("theta", "axes_dim", "pos_freqs", "neg_freqs", "scale_rope"),
        lacks=("_compute_condition_freqs",),  # the layered model, whose condition has positions of its own
        axes=3,
        embedding="shapes",
        packed=True,
        timestep=lambda t: t * 1000,
        draws_unhelped=1.75,  # its pipelines' sizes go up to 1328 × 1328
    ),
    TransformerFamily(
        name="z-image",
        takes=frozenset({"x", "t", "cap_feats"}),
        part="rope_embedder",
        has=("theta", "axes_dims", "axes_lens"),
        embedding="look-up",
        attention=r"(noise_refiner|layers|control_layers|control_noise_refiner)\.\d+\.attention",
        timestep=lambda t: 1000 - t * 1000,  # which runs the other way
    ),
    TransformerFamily(
        name="sd3",
        takes=frozenset({"hidden_states", "timestep", "pooled_projections"}),
        part="pos_embed",
        has=("cropped_pos_embed", "pos_embed_max_size", "base_size"),
        embedding="table",
        latents=None,
    ),
    TransformerFamily(
        name="sana",
        takes=frozenset({"hidden_states", "timestep", "encoder_attention_mask"}),
        part="transformer_blocks.0.ff.conv_depth",
        has=("kernel_size",),
        sections=frozenset({"redilation", "dispersion", "schedule"}),
        native=GridSize(32, 32),
        pixels=32,
        latents=None,
        starts_from_pictures=False,
    ),
    TransformerFamily(
        name="wan",
        takes=frozenset({"hidden_states", "timestep", "encoder_hidden_states"}),
        part="rope",
        has=("t_dim", "h_dim", "w_dim", "max_seq_len", "patch_size"),
        embedding="grid",
        attention=r"blocks\.\d+\.attn1",
        native=GridSize(30, 52),  # 480 × 832
    ),
    TransformerFamily(
        name="hunyuan-image",
        takes=frozenset({"hidden_states", "timestep", "encoder_hidden_states", "timestep_r"}),
        part="rope",
        has=("rope_dim", "patch_size", "theta"),
        embedding="grid",
        pixels=32,
        latents=None,
        starts_from_pictures=False,
    ),
)

TRANSFORMERS: Mapping[str, TransformerFamily] = MappingProxyType({family.name: family for family in _ALL})
"""The families by name."""
