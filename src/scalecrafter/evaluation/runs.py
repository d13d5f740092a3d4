"""Makes the pictures of an evaluation and inspects each. Finished pictures stay; missing ones are made.

Knows nothing of figures or of the command line.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any, Protocol

import torch
from PIL import Image

from ..errors import ScaleCrafterError
from ..generation.generate import generate
from ..methods.steps.denoising import Progress
from ..unet.architecture import read_architecture
from . import peak_memory
from .inspection import Inspector, same_signature
from .rows import PictureRow
from .settings import EvaluationSettings, Sample, Size
from .store import RunFolder, sha256


class EvaluationListener(Protocol):
    """Told how a run gets on; what it raises stops the run, and nothing finished is lost."""

    def begin(self, done: int, total: int) -> None:
        """Before the first picture: how many are there already."""

    def step(self, sample: Sample, step: int, steps: int) -> None:
        """After each step of denoising."""

    def finished(self, sample: Sample, seconds: float) -> None:
        """After each picture, when it is safe on disk."""


def native_size(pipe: Any) -> Size:
    """(width, height) in image pixels that the model was trained for."""
    architecture = read_architecture(pipe)
    factor = architecture.pixel_factor
    return architecture.native_width * factor, architecture.native_height * factor


def shared_settings(pipe: Any, settings: EvaluationSettings) -> dict[str, Any]:
    """What decides what every picture looks like and costs, in plain values; the model by its weights."""
    said = settings.base.model_dump(
        mode="json", include={"model", "negative", "steps", "guidance", "seed", "scheduler", "freeu"}
    )
    return {
        **said,
        "weights": weights_digest(pipe),
        "dtype": str(pipe.unet.dtype).removeprefix("torch."),
        "device": pipe.device.type,
        "prompts": sha256([[prompt.text, prompt.expected] for prompt in settings.prompts]),
    }


def shared_choices(settings: EvaluationSettings) -> dict[str, Any]:
    """What each label stands for, recipe files by their text."""
    return {
        choice.label: choice.request(settings.base)
        .self_contained()
        .model_dump(mode="json", include={"method", "recipe", *choice.values})
        for choice in settings.choices
    }


def weights_digest(pipe: Any) -> str:
    """SHA-256 of every weight of the pipeline's models and of the numbers of its tokens.

    So a model that changed is noticed under the same name: with other numbers the same words mean something else.
    """
    digest = hashlib.sha256()
    for name, module in sorted(pipe.components.items()):
        if isinstance(module, torch.nn.Module):
            for key, tensor in sorted(module.state_dict().items()):
                digest.update(f"{name}.{key} {tuple(tensor.shape)} {tensor.dtype}".encode())
                digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        elif hasattr(module, "get_vocab"):
            digest.update(json.dumps([name, module.get_vocab()], sort_keys=True).encode())
    return digest.hexdigest()


def check(pipe: Any, settings: EvaluationSettings) -> None:
    """Find out before any work is done whether the model can make these sizes (`SizeError`)."""
    architecture = read_architecture(pipe)
    for width, height in settings.sizes:
        architecture.check_size(height=height, width=width)


def make_pictures(
    pipe: Any, settings: EvaluationSettings, store: RunFolder, inspector: Inspector, listener: EvaluationListener
) -> None:
    """Make every picture that the folder lacks, and look at it.

    Args:
        pipe: a pipeline as `load_pipeline` gives it.
        settings: what to make.
        store: a folder claimed for these settings.
        inspector: looks at each picture.
        listener: is told how it gets on.

    Raises:
        ScaleCrafterError: from the first picture that cannot be made or written, naming its cell; all before it stay.
    """
    samples = list(settings.samples(native_size(pipe)))
    missing = [sample for sample in samples if not store.finished(sample)]
    listener.begin(len(samples) - len(missing), len(samples))
    for sample in missing:

        def step(done: int, steps: int, sample: Sample = sample) -> None:
            listener.step(sample, done, steps)

        listener.finished(sample, make_picture(pipe, sample, store, inspector, step))


def make_picture(
    pipe: Any, sample: Sample, store: RunFolder, inspector: Inspector, progress: Progress | None = None
) -> float:
    """Make one picture, look at it and keep both: the seconds that making it took.

    Raises:
        ScaleCrafterError: if it cannot be made or written, naming its cell.
    """
    measured = peak_memory.begin(pipe)
    try:
        result = generate(pipe, sample.request, progress)
    except ScaleCrafterError as error:
        place = f"{sample.label} at {sample.size[0]}×{sample.size[1]}, picture {sample.index}"
        raise type(error)(f"{place}: {error}") from error
    store.keep(sample, result, result.peak_memory if measured else None, inspector.inspect(result.image))
    return result.seconds


def agree_on_inspector(store: RunFolder, inspector: Inspector, report: Callable[[int, int], None], again: bool) -> None:
    """Let all rows of a folder be of this inspector: pictures that another one looked at are looked at again.

    Args:
        store: the folder.
        inspector: whose metrics all rows shall hold.
        report: called with (pictures seen, all pictures).
        again: look at every picture anew in any case.
    """
    signature = inspector.signature()
    found = store.manifest.get("inspector")
    if again or found is None or found["name"] != inspector.name or not same_signature(found["signature"], signature):
        rows = store.own_rows()
        for number, row in enumerate(rows, 1):
            store.keep_row(_seen_again(store, row, inspector))
            report(number, len(rows))
        store.note(inspector={"name": inspector.name, "signature": signature})


def _seen_again(store: RunFolder, row: PictureRow, inspector: Inspector) -> PictureRow:
    path = store.folder / row.file
    try:
        with Image.open(path) as image:
            return row.model_copy(update={"metrics": inspector.inspect(image)})
    except OSError as error:
        raise ScaleCrafterError(
            f"cannot read {str(path)!r} ({error}): delete it, and the next run makes it again"
        ) from None
