"""Direct inference with the entropy of self-attention kept at that of the native size.

Paper: Jin et al. 2023 (arXiv 2306.08645), section 3.2.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from ..request.methods import Method
from ..request.passes import Pass, one_pass

if TYPE_CHECKING:
    from PIL import Image

    from .._util.sizes import ModelSizes
    from ..request.request import Request
    from .steps.job import PictureJob


def make(job: PictureJob) -> Image.Image:
    """The picture."""
    from ..patching.attention import scaled_attention

    pipe, start = job.prepare_call()
    with scaled_attention(pipe) if not job.has_transformer else _scaled(pipe):
        latents = job.denoise(pipe, **start)
    return job.picture(latents, pipe)


def _scaled(pipe: Any) -> AbstractContextManager[Any]:
    """The same on a transformer, whose recipes have it as a section."""
    from ..patching.apply import applied
    from ..recipes.recipe import Recipe

    return applied(pipe, recipe=Recipe.from_mapping({"attention": {"temperature": "entropy"}}))


def passes(request: Request, _architecture: ModelSizes) -> list[Pass]:
    """What the picture is made of."""
    from ..patching.attention import scaled_attention

    return one_pass(request, around=scaled_attention)


METHOD = Method(
    name="attention-scaling",
    summary="self-attention sharpened so that its entropy stays that of the native size",
    title="Attention scaling",
    plain="Changes how the model looks at the whole picture. For research; things may still repeat.",
    source="Jin et al. 2023 (arXiv 2306.08645), section 3.2",
    make=make,
    passes=passes,
    needs=frozenset({"softmax"}),
    takes=frozenset({"image", "control"}),
)
