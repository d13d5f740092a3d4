"""One picture being made, as a method's `make` is given it, with the steps that methods have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ..._util.sizes import GridSize, ImageSize
from ...models.controlnets import controlnets_for
from ...models.tasks import image_to_image, inpainting, text_to_image
from ...request.inputs import open_control, open_image, open_mask
from ...request.methods import MethodSettings
from ...request.request import Request
from ...transformer.architecture import TransformerArchitecture
from ...unet.architecture import Architecture
from ...unet.trajectory import table_length
from .denoising import Progress, denoise, draw_noise, picture
from .stages import at_least_one_step, native_size, stage_sizes

S = TypeVar("S", bound=MethodSettings)


@dataclass(frozen=True)
class PictureJob:
    """One picture being made."""

    pipe: Any
    """A text-to-image pipeline with a U-Net or a transformer, which has the request's scheduler."""
    architecture: Architecture | TransformerArchitecture
    request: Request
    """Settled: nothing that the picture depends on is open."""
    generator: torch.Generator
    """On the CPU, with the request's seed; everything random is drawn from it, in order."""
    progress: Progress | None = None
    start: Image.Image | None = None
    """The picture of this size to start from, where one is enlarged."""

    @property
    def size(self) -> ImageSize:
        """The picture's size."""
        assert self.request.width is not None
        assert self.request.height is not None
        return ImageSize(self.request.width, self.request.height)

    @property
    def latent_size(self) -> GridSize:
        """The size of its latents."""
        return self.architecture.grid_size(self.size)

    @property
    def native_size(self) -> ImageSize:
        """The size at which the model draws a picture of about this shape well."""
        return native_size(self.architecture, self.size)

    def stage_sizes(self) -> list[ImageSize]:
        """The sizes of the stages after the native one, each at most twice the one before it."""
        return stage_sizes(self.native_size, self.size, self.architecture.size_multiple)

    def settings(self, kind: type[S]) -> S:
        """The method's settings: those of the request, or the defaults."""
        return self.request.settings_of(kind)

    @property
    def has_transformer(self) -> bool:
        """Whether the model is a transformer."""
        return isinstance(self.architecture, TransformerArchitecture)

    def prepare_call(self) -> tuple[Any, dict[str, Any]]:
        """The pipeline to call for a picture of one pass, and what it starts from.

        That is noise, or the request's image, of which a mask lets only a part be redrawn; control images come along.
        """
        request, size = self.request, self.size
        models = [control.model for control in request.controls]
        controlnets = controlnets_for(self.pipe, models) if models else []
        if request.image is None and self.start is None:
            return text_to_image(self.pipe, controlnets), self.from_noise() | self._controls("image")
        start = self._image_and_strength()
        start |= self._controls("control_image")
        if request.mask is None:
            return image_to_image(self.pipe, controlnets), start
        mask = {"mask_image": open_mask(request, size), "width": size.width, "height": size.height}
        return inpainting(self.pipe, controlnets), start | mask

    def _image_and_strength(self) -> dict[str, Any]:
        """What image to image starts from."""
        request = self.request
        if self.start is not None and request.enlarge is not None:
            strength = at_least_one_step(request.enlarge.creativity, request.steps)
            return self.from_image(self.start, strength, self.size)
        return self.from_image(open_image(request, self.size), request.strength_or_default, self.size)

    def from_image(self, image: Image.Image | Tensor, strength: float, size: ImageSize) -> dict[str, Any]:
        """What an image-to-image pipeline starts from: a picture of this size, or its latents."""
        start: dict[str, Any] = {"image": image, "strength": strength}
        if self.has_transformer:  # whose pipelines would draw the native size
            start |= {"width": size.width, "height": size.height}
        return start

    def from_noise(self, size: ImageSize | None = None) -> dict[str, Any]:
        """What a text-to-image pipeline starts from at `size`, by default the picture's own."""
        size = size or self.size
        noise = draw_noise(self.pipe, self.architecture.grid_size(size), self.generator)
        return {"latents": noise, "width": size.width, "height": size.height}

    def image_to_image(self) -> Any:
        """The pipeline of the same models that starts from an image or latents."""
        return image_to_image(self.pipe)

    def denoise(self, pipe: Any = None, *, progress: Progress | None = None, **start: Any) -> Tensor:
        """Latents `(1, channels, height, width)` of one pass; `start` goes before what the request has.

        Args:
            pipe: the pipeline to call; by default the job's own.
            progress: of this pass, where there are several (`progress_of_passes`).
            start: further arguments of the pipeline's call.
        """
        return denoise(pipe or self.pipe, self.request, self.generator, progress or self.progress, **start)

    def picture(self, latents: Tensor, pipe: Any = None) -> Image.Image:
        """The picture in 8-bit RGB that latents stand for; errors as `denoising.picture`."""
        return picture(pipe or self.pipe, latents)

    def enlarged(self, latents: Tensor, size: ImageSize) -> Tensor:
        """Latents `(batch, channels, height, width)` at another size, bilinearly."""
        return F.interpolate(latents, self.architecture.grid_size(size), mode="bilinear", align_corners=False)

    def progress_of_passes(self, strengths: Sequence[float]) -> list[Progress | None]:
        """For each pass the progress to give to `denoise`, so that the job's counts the steps of all of them.

        Args:
            strengths: of each pass the fraction of the trajectory that it runs, as image-to-image counts it.
        """
        return self.progress_of_steps([self.table_length(strength) for strength in strengths])

    def progress_of_steps(self, lengths: Sequence[int]) -> list[Progress | None]:
        """Likewise, from the number of steps of each pass."""
        if self.progress is None:
            return [None] * len(lengths)
        return [_shifted(self.progress, sum(lengths[:number]), sum(lengths)) for number in range(len(lengths))]

    def table_length(self, strength: float = 1.0) -> int:
        """How many entries of the scheduler's table a pass goes through; more than its steps for Heun and its like."""
        return table_length(self.pipe.scheduler, self.request.steps, strength)

    def _controls(self, name: str) -> dict[str, Any]:
        """What a ControlNet pipeline is given of the request's controls, whose images it takes by `name`."""
        controls = self.request.controls
        if not controls:
            return {}
        images = [open_control(control, self.size) for control in controls]
        scales = [control.scale for control in controls]
        several = len(controls) > 1
        return {
            name: images if several else images[0],
            "controlnet_conditioning_scale": scales if several else scales[0],
        }


def _shifted(progress: Progress, before: int, total: int) -> Progress:
    return lambda step, _steps_of_the_pass: progress(before + step, total)
