"""Models on the meta device, of which the operations of a pass are counted: no weights are read, nothing is run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Protocol

from ..errors import ModelError
from ..models.controlnets import controlnet_outline
from ..models.denoisers import read_model
from ..models.loading import Outline, load_outline
from ..models.sources import locate
from ..request.passes import Decoding, Denoising, Pass
from ..request.request import Request
from ..transformer.architecture import TransformerArchitecture
from ..unet.architecture import Architecture
from ..unet.trajectory import table_length
from .architectures import TEXT_TOKENS, BenchModel, ddim
from .flops import FlopCounts

OF_VAE = 10_000_000
"""Operations of decoding a pixel, of a VAE that cannot be counted: those of Stable Diffusion's at 1024²."""
_TRANSFORMERS_TOKENS = 256
"""Of a prompt, roughly."""


class Counts(Protocol):
    """Operations of one model."""

    def of_pass(self, one: Pass, steps: int) -> int:
        """One pass, all of its steps; `steps` are those of the request."""


class CostedModel:
    """One model."""

    def __init__(self, outline: Any, text_tokens: int = TEXT_TOKENS) -> None:
        """Take an outline, or a whole pipeline, whose modules are moved to the meta device then."""
        self.outline = outline
        for part in (getattr(outline, name, None) for name in ("unet", "transformer", "vae")):
            if part is not None and part.device.type != "meta":
                part.to("meta")
        self.architecture: Architecture | TransformerArchitecture = read_model(outline)
        self.counts: Counts = self._counts(text_tokens)
        self._controlnets: dict[str, Any] = {}

    def of_pass(self, one: Pass, request: Request) -> int:
        """Operations of one pass, all of its steps, with the ControlNets that the request has."""
        flops = self.counts.of_pass(one, request.steps)
        if isinstance(one, Denoising) and isinstance(self.counts, FlopCounts):
            for controlnet in self.controlnets(request):
                flops += self.counts.of_controlnet(controlnet, one, request.steps)
        return flops

    def controlnets(self, request: Request) -> list[Any]:
        """Outlines of the request's ControlNets, as many as it has control images."""
        for name in {control.model for control in request.controls} - self._controlnets.keys():
            self._controlnets[name] = controlnet_outline(name, self.outline.unet)
        return [self._controlnets[control.model] for control in request.controls]

    def _counts(self, text_tokens: int) -> Counts:
        outline = self.outline
        if isinstance(self.architecture, TransformerArchitecture):
            return _TransformerCounts(outline, self.architecture)
        factor = int(outline.vae_scale_factor)
        return FlopCounts(BenchModel("model", outline.unet, outline.vae, ddim(), factor, text_tokens))


def costed_model(model: str, given: Any = None) -> CostedModel:
    """A model by what a user calls it.

    Args:
        model: as `load_pipeline` takes it.
        given: what `load_outline` made of it, for a single file, whose shapes nothing but its weights tells.

    Raises:
        ModelError: for what cannot be opened, or not without reading weights.
    """
    kind, source = locate(model)
    if kind == "hub":
        source = _downloaded(source) or source
        kind = "folder" if Path(source).is_dir() else kind
    if kind == "folder":
        return CostedModel(load_outline(source), _text_tokens(Path(source)))
    if given is None:
        raise ModelError(f"what {model!r} costs is not known before its weights are read")
    parts = {name: getattr(given, name, None) for name in ("unet", "vae", "transformer")}
    outline = Outline(parts["unet"], given.scheduler, given.vae_scale_factor, parts["vae"], parts["transformer"])
    return CostedModel(outline)


def _downloaded(name: str) -> str | None:
    """The folder of a model of the hub that is on this machine."""
    from huggingface_hub import snapshot_download

    try:
        return str(snapshot_download(name, local_files_only=True))
    except Exception:  # it is not here, and the reason does not matter
        return None


def _text_tokens(folder: Path) -> int:
    try:
        config = json.loads((folder / "text_encoder" / "config.json").read_text("utf-8"))
        return int(config.get("max_position_embeddings", TEXT_TOKENS))
    except (OSError, ValueError, TypeError):
        return TEXT_TOKENS


class _TransformerCounts:
    """Operations of a transformer by its weights and by its attention; a multiplication and an addition are two."""

    def __init__(self, outline: Any, architecture: TransformerArchitecture) -> None:
        self._vae, self._architecture = outline.vae, architecture
        self._scheduler = outline.scheduler
        transformer = outline.transformer
        self._weights = sum(parameter.numel() for parameter in transformer.parameters())
        self._widths = [_width(module) for module in transformer.modules() if _attends_to_the_image(module)]
        self._learnt_guidance = bool(transformer.config.get("guidance_embeds"))

    def of_pass(self, one: Pass, steps: int) -> int:
        """One pass, all of its steps."""
        if not isinstance(one, Denoising):
            return self._through_vae(one)
        grid = self._architecture.grid(one.size.height, one.size.width)
        tokens = grid.height * grid.width + _TRANSFORMERS_TOKENS
        evaluation: int = 2 * self._weights * tokens + sum(4 * tokens**2 * width for width in self._widths)
        first, last = one.span
        share = max(min(last, 1.0) - max(first, 1.0 - one.strength), 0.0)
        length = table_length(self._scheduler, one.steps or steps)
        evaluations = 2 if one.guided and not self._learnt_guidance else 1
        return int(max(share * length, 1)) * evaluations * evaluation

    def _through_vae(self, one: Pass) -> int:
        share = 1.0 if isinstance(one, Decoding) else 0.5
        return round(share * OF_VAE * one.size.width * one.size.height)


def _attends_to_the_image(module: Any) -> bool:
    """Whether a module is self-attention with a matrix: neither of linear attention, nor of the text alone."""
    if not (hasattr(module, "to_q") and hasattr(module, "heads")) or getattr(module, "is_cross_attention", False):
        return False
    return "Linear" not in type(getattr(module, "processor", None)).__name__


def _width(module: Any) -> int:
    return int(module.to_q.out_features)
