"""What this library raises on purpose: every message says what was wrong, what was expected and what to do next."""

from __future__ import annotations

from typing import ClassVar


class ScaleCrafterError(ValueError):
    """The base of all errors that ScaleCrafter raises for its users."""

    users_fault: ClassVar[bool] = False
    """Whether something else must be asked for: then the exit code is 2, and trying again cannot help."""


class RecipeError(ScaleCrafterError):
    """A recipe that cannot be read, or would not do what it says."""

    users_fault = True


class ModelError(ScaleCrafterError):
    """A model or pipeline that ScaleCrafter cannot act on, or cannot load."""

    users_fault = True


class SizeError(ScaleCrafterError):
    """A picture size that the model cannot make."""

    users_fault = True


class NumericalError(ScaleCrafterError):
    """NaN or infinity in latents or picture."""


class OutOfMemoryError(ScaleCrafterError):
    """A picture that did not fit in memory."""


class VaeOutOfMemoryError(OutOfMemoryError):
    """A picture that was made, and whose decoding (or the encoding of its start) did not fit in memory."""


class UnwritableError(ScaleCrafterError, OSError):
    """A file or folder that cannot be written: a full disk, a missing folder, no permission."""


class Cancelled(Exception):  # it is no error
    """A run that was ended on request, by a `ProgressCallback`."""


def first_line(error: BaseException | None) -> str:
    """The first line of another library's message, for a message of ours."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
