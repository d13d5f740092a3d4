"""What a transformer is: its family and its native size, read from its parts, its config and its pipeline."""

from __future__ import annotations

import inspect
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from .._util.sizes import GridSize, ModelSizes, check_size
from ..errors import ModelError
from ..ops.rotary import whole_ids
from .families import TRANSFORMERS, TransformerFamily, part_at, transformer_family


@dataclass(frozen=True)
class TransformerArchitecture(ModelSizes):
    """The facts about a transformer that ScaleCrafter acts on."""

    kind: TransformerFamily
    guidance: float | None = None
    """The guidance that its pipeline has where none is said; None for a bare transformer."""
    reach: GridSize | None = None
    """The most tokens along each axis whose positions its tables hold; None: there is no table."""

    @property
    def family(self) -> str:
        """The family's name, as recipes write it."""
        return self.kind.name

    @property
    def native(self) -> GridSize:
        """Image tokens of its trained size."""
        side = self.size_multiple // self.pixel_factor
        return GridSize(self.native_height // side, self.native_width // side)

    @property
    def pixels(self) -> int:
        """Image pixels to a token, along each axis."""
        return self.size_multiple

    def grid(self, height: int, width: int) -> GridSize:
        """The image tokens of a size in image pixels."""
        return GridSize(height // self.pixels, width // self.pixels)

    def check_reach(self, grid: GridSize, scaled: Collection[int] = ()) -> None:
        """Raise `ModelError` for tokens that the tables of positions do not hold, on an axis that is not scaled."""
        for axis, tokens in enumerate(grid if self.reach is not None else ()):
            if axis not in scaled and self.reach is not None and tokens > self.reach[axis]:
                raise ModelError(
                    f"this model's tables hold {self.reach[axis]} positions along an axis, and {tokens} tokens are "
                    "asked for on an axis that is not scaled: name a recipe with [positions]"
                )

    def check_size(self, height: int, width: int) -> None:
        """Raise `SizeError`, naming the two nearest good sizes, unless this size is a whole number of tokens."""
        check_size(height, width, self.size_multiple, "the transformer's patch")


def uncompiled(module: Any) -> Any:
    """The module within torch.compile's wrapper."""
    return getattr(module, "_orig_mod", module)


def transformer_of(pipe: Any) -> nn.Module | None:
    """The transformer of a pipeline, or `pipe` itself where it is one; None for what has a U-Net, or neither.

    Raises:
        ModelError: for a transformer of no known family.
    """
    module = uncompiled(pipe if isinstance(pipe, nn.Module) else getattr(pipe, "transformer", None))
    if transformer_family(module) is not None:
        return module  # type: ignore[no-any-return]
    has_unet = hasattr(module, "down_blocks") and hasattr(module, "up_blocks")
    if isinstance(pipe, nn.Module) or module is None or has_unet or getattr(pipe, "unet", None) is not None:
        return None
    raise ModelError(
        f"ScaleCrafter does not know the transformer of {pipeline_class(pipe).__name__} ({type(module).__name__}); "
        "the families "
        f"that it knows are {', '.join(TRANSFORMERS)}"
    )


def control_networks(pipe: Any) -> list[nn.Module]:
    """The ControlNets of a pipeline, whose tokens have positions of their own.

    Raises:
        ModelError: for one of another family than the transformer.
    """
    found = uncompiled(getattr(pipe, "controlnet", None)) if not isinstance(pipe, nn.Module) else None
    if found is None:
        return []
    networks = [uncompiled(one) for one in getattr(found, "nets", [found])]
    family = transformer_family(uncompiled(pipe.transformer))
    for network in networks:
        if transformer_family(network) is not family:
            raise ModelError(
                f"ScaleCrafter does not know the positions of this ControlNet ({type(network).__name__}): take a "
                "pipeline without it, or a ControlNet of the transformer's own kind"
            )
    return networks


def read_transformer(pipe: Any, transformer: nn.Module) -> TransformerArchitecture:
    """Family and native size of a pipeline's transformer, or of a bare one."""
    family = transformer_family(transformer)
    assert family is not None
    config: Any = getattr(transformer, "config", {})
    latents = family.latents or _patch(transformer)[0]
    factor = getattr(pipe, "vae_scale_factor", None) or getattr(pipe, "vae_scale_factor_spatial", None)
    factor = factor if isinstance(factor, int) else max(family.pixels // latents, 1)
    side = config.get("sample_size") or getattr(pipe, "default_sample_size", None)
    if isinstance(side, int):
        height = width = side // latents * latents
    else:
        height, width = (tokens * latents for tokens in family.native)
    return TransformerArchitecture(
        native_height=height,
        native_width=width,
        levels=latents.bit_length(),
        pixel_factor=factor,
        kind=family,
        guidance=own_guidance(pipe),
        reach=_reach(family, embedding_of(transformer, family)),
    )


def _reach(family: TransformerFamily, embedding: Any) -> GridSize | None:
    if family.embedding == "shapes":
        side = len(embedding.pos_freqs) * (2 if embedding.scale_rope else 1)
        return GridSize(side, side)
    if family.embedding == "look-up":
        return GridSize(*(int(length) for length in embedding.axes_lens[1:3]))
    if family.embedding == "table":
        return GridSize(int(embedding.pos_embed_max_size), int(embedding.pos_embed_max_size))
    return None


def guidance_argument(pipe: Any) -> str:
    """The argument of a pipeline's call that a request's guidance is: the true scale, unless the model learnt one."""
    parameters = inspect.signature(pipeline_class(pipe).__call__).parameters
    config: Any = getattr(getattr(pipe, "transformer", None), "config", {})
    true = "true_cfg_scale" in parameters and config and not config.get("guidance_embeds")
    return "true_cfg_scale" if true else "guidance_scale"


def own_guidance(pipe: Any) -> float | None:
    """The default of that argument; None where there is none."""
    kind = pipeline_class(pipe)
    if isinstance(pipe, nn.Module) or not callable(getattr(kind, "__call__", None)):  # noqa: B004
        return None
    parameter = inspect.signature(kind.__call__).parameters.get(guidance_argument(pipe))
    default = parameter.default if parameter is not None else None
    return float(default) if isinstance(default, (int, float)) else None


def pipeline_class(pipe: Any) -> type[Any]:
    """The class of a pipeline, or of the one that an outline is of."""
    return getattr(pipe, "pipeline_class", None) or type(pipe)


def attention_layers(transformer: nn.Module, family: TransformerFamily) -> list[nn.Module]:
    """The attention that sees image tokens, in the order of the modules."""
    return [module for path, module in transformer.named_modules() if re.fullmatch(family.attention, path)]


def image_grid(family: TransformerFamily, transformer: nn.Module, arguments: dict[str, Any]) -> GridSize:
    """The image tokens of one call, from the arguments of the transformer's `forward`.

    Where reference pictures come with it, the picture that is drawn is the first.
    """
    if family.embedding == "ids":
        ids: Tensor = arguments["img_ids"]
        ids = ids[0] if ids.ndim == 3 else ids
        drawn = whole_ids(ids[ids[:, 0] == ids[0, 0]])
        spans = (drawn.amax(0) - drawn.amin(0) + 1).tolist()
        return GridSize(int(spans[1]), int(spans[2]))
    if family.embedding == "shapes":
        shape = arguments["img_shapes"]
        while isinstance(shape[0], (list, tuple)):
            shape = shape[0]
        return GridSize(int(shape[1]), int(shape[2]))
    if family.embedding == "look-up":
        patch = int(arguments.get("patch_size") or 2)
        sizes = {tuple(image.shape[-2:]) for image in arguments["x"] if isinstance(image, Tensor)}
        if len(sizes) != 1:
            raise ModelError("ScaleCrafter acts on Z-Image where all pictures of a call have one size, and no others")
        ((height, width),) = sizes
        return GridSize(height // patch, width // patch)
    height, width = arguments["hidden_states"].shape[-2:]
    vertical, horizontal = _patch(transformer)
    return GridSize(height // vertical, width // horizontal)


def _patch(transformer: nn.Module) -> tuple[int, int]:
    patch: Any = getattr(transformer, "config", {}).get("patch_size") or 1
    return (int(patch), int(patch)) if isinstance(patch, int) else (int(patch[-2]), int(patch[-1]))


def embedding_of(transformer: nn.Module, family: TransformerFamily) -> Any:
    """What computes a transformer's positions; None where there are none to scale."""
    return part_at(transformer, family.part) if family.embedding else None
