"""Makes the pictures of an evaluation and inspects each. Finished pictures stay; missing ones are made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from PIL import Image

from ..errors import ScaleCrafterError
from ..generation import peak_memory
from ..generation.generate import generate
from ..methods.steps.denoising import Progress
from ..models.denoisers import denoiser_of, read_model
from .estimate import PlannedCell, planned
from .inspection import Inspector, same_signature
from .rows import PictureRow
from .settings import EvaluationSettings, Sample
from .store import RunFolder, sha256


class EvaluationListener(Protocol):
    """Called during a run. An exception in it stops the run; finished pictures stay."""

    def planned(self, cells: Sequence[PlannedCell]) -> None:
        """First of all: what is to be made, and about how long that takes."""

    def begin(self, done: int, total: int) -> None:
        """Before the first picture; `done` pictures are there already."""

    def step(self, sample: Sample, step: int, steps: int) -> None:
        """After each step of denoising."""

    def finished(self, sample: Sample, seconds: float) -> None:
        """After each picture, when it is safe on disk."""


def shared_settings(pipe: Any, settings: EvaluationSettings) -> dict[str, Any]:
    """The settings that decide how every picture looks and what it costs. The model is known by its weights."""
    shared = settings.base.model_dump(
        mode="json", include={"model", "negative", "steps", "guidance", "seed", "scheduler", "freeu"}
    )
    return {
        **shared,
        "weights": weights_digest(pipe),
        "dtype": str(denoiser_of(pipe).dtype).removeprefix("torch."),
        "device": pipe.device.type,
        "prompts": sha256([[prompt.text, prompt.expected] for prompt in settings.prompts]),
    }


def shared_choices(settings: EvaluationSettings) -> dict[str, Any]:
    """The settings of each label; a recipe file is replaced by its text."""
    return {
        choice.label: choice.request(settings.base)
        .self_contained()
        .model_dump(mode="json", include={"method", "recipe", *choice.values})
        for choice in settings.choices
    }


def weights_digest(pipe: Any) -> str:
    """SHA-256 of all weights of the pipeline's models and of the numbers of its tokens.

    It shows that a model has changed under the same name. With other token numbers, the same words mean something else.
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
    """Raise `SizeError` for a size that the model cannot make, before any work is done."""
    architecture = read_model(pipe)
    for width, height in settings.sizes:
        architecture.check_size(height=height, width=width)


def make_pictures(
    pipe: Any, settings: EvaluationSettings, store: RunFolder, inspector: Inspector, listener: EvaluationListener
) -> None:
    """Make and inspect every picture that the folder does not have yet.

    Args:
        pipe: a pipeline as `load_pipeline` gives it.
        settings: what to make.
        store: a folder claimed for these settings.
        inspector: of each picture.
        listener: is called during the run.

    Raises:
        ScaleCrafterError: the first picture that cannot be made or written, with its cell; all before it stay.
    """
    samples = list(settings.samples(read_model(pipe).native_size))
    missing = [sample for sample in samples if not store.finished(sample)]
    listener.planned(planned(pipe, missing))
    listener.begin(len(samples) - len(missing), len(samples))
    for sample in missing:

        def step(done: int, steps: int, sample: Sample = sample) -> None:
            listener.step(sample, done, steps)

        listener.finished(sample, make_picture(pipe, sample, store, inspector, step))


def make_picture(
    pipe: Any, sample: Sample, store: RunFolder, inspector: Inspector, progress: Progress | None = None
) -> float:
    """Make one picture, inspect it and keep both; the answer is how many seconds it took to make.

    Raises:
        ScaleCrafterError: if it cannot be made or written, naming its cell.
    """
    measured = peak_memory.begin(pipe)
    try:
        result = generate(pipe, sample.request, progress)
    except ScaleCrafterError as error:
        where = f"{sample.label} at {sample.size[0]}×{sample.size[1]}, picture {sample.index}"
        raise type(error)(f"{where}: {error}") from error
    store.keep(sample, result, result.peak_memory if measured else None, inspector.inspect(result.image))
    return result.seconds


def agree_on_inspector(store: RunFolder, inspector: Inspector, report: Callable[[int, int], None], again: bool) -> None:
    """Let all rows of a folder come from this inspector. Pictures of another one are inspected again.

    Args:
        store: the folder.
        inspector: of all rows.
        report: called with (pictures seen, all pictures).
        again: inspect every picture in any case.
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
