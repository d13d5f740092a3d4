"""How the server starts a worker process, and what the exit code of a worker means."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from .settings import ServerSettings

WRONG_SETTINGS = 78
"""Exit code of a worker that cannot work with its settings. Starting it again does not help."""


class WorkerArguments(BaseModel):
    """What a worker needs to know. It arrives as one line of JSON on the worker's standard input."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    settings: ServerSettings
    index: int = 0
    """The number of this worker. Workers take the GPUs in turn."""
