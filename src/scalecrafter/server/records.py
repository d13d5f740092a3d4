"""Jobs and their pictures, as plain values from the store."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from .._util.sizes import ImageSize, check_size, nearest_size
from ..errors import ModelError
from ..generation.checks import check_method
from ..request.methods import Ability, Models, Task, methods_for
from ..request.request import Request, says_guidance
from .image_output import ParameterError

QUEUED, RUNNING, DONE, FAILED, CANCELLED = "queued", "running", "done", "failed", "cancelled"
FINAL = frozenset({DONE, FAILED, CANCELLED})


@dataclass(frozen=True)
class Client:
    """Who submits a job, and so may list it. Whoever has the id of a job may see and cancel it."""

    key: str = ""
    """Digest of its API key; empty on a server without keys."""
    name: str = ""
    """Digest of a secret that it made up for itself, as a browser may; empty without one."""


NOBODY = Client()
"""A client without a key and a name."""


@dataclass(frozen=True)
class Failure:
    """Why a picture was not made."""

    message: str
    """In one line, for the client."""
    is_clients: bool
    """Whether the request is the reason, and not the server."""


@dataclass(frozen=True)
class QueuedPicture:
    """One picture of a job."""

    id: str
    """It cannot be guessed. Whoever has it may see the picture."""
    position: int
    """From 0, within its job."""
    seed: int
    status: str
    """queued | running | done | failed | cancelled."""
    step: int
    steps: int
    """Of all passes together; 0 until it is known."""
    preview_number: int
    """Of the latest preview, which `Jobs.preview` returns; 0: there is none."""
    failure: Failure | None
    seconds: float | None
    """How long it took, if it is done."""
    width: int | None
    height: int | None
    notes: tuple[str, ...]
    """What was done to the picture that it was made from."""

    @classmethod
    def from_row(cls, row: sqlite3.Row) -> QueuedPicture:
        """A picture from its row in the store."""
        failure = None if row["error"] is None else Failure(row["error"], bool(row["clients_fault"]))
        plain = {name: row[name] for name in cls.__dataclass_fields__ if name not in ("failure", "notes")}
        return cls(failure=failure, notes=tuple(json.loads(row["notes"])), **plain)


@dataclass(frozen=True)
class ServerJob:
    """One submission: a request and its pictures."""

    id: str
    created: float
    """Seconds since 1970."""
    request: Request
    """As accepted; its `seed` is that of the first picture, its `model` the public name."""
    pictures: tuple[QueuedPicture, ...]
    ahead: int
    """Pictures in the queue before this job's first waiting one; 0 if none of it waits."""

    @property
    def status(self) -> str:
        """queued | running | done | failed | cancelled: of the job as a whole."""
        found = {picture.status for picture in self.pictures}
        for status in (FAILED, CANCELLED):
            if status in found:
                return status
        if found == {DONE}:
            return DONE
        return QUEUED if found == {QUEUED} else RUNNING

    @property
    def is_final(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.status in FINAL

    @property
    def failure(self) -> Failure | None:
        """Of the first picture that failed."""
        return next((picture.failure for picture in self.pictures if picture.failure), None)


@dataclass(frozen=True)
class Claim:
    """A picture that a worker makes now."""

    picture: str
    job: str
    request: Request
    """With the seed of this picture; `model` is the public name and `image` a name in the uploads."""


class ModelFacts(BaseModel):
    """What a server must know of a model to refuse a request before it is queued; a worker publishes it."""

    model_config = ConfigDict(frozen=True)

    size_multiple: int
    """Both sides of a picture, in image pixels, must be a multiple of this."""
    width: int
    """Of a picture without a size in its request, in image pixels."""
    height: int
    guidance: float | None = None
    """Of a request that says none; None: that of every model."""
    kind: Models = "unet"
    family: str = "any"
    """As recipes write it."""
    lacks: tuple[Ability, ...] = ()
    """What cannot be asked of it."""

    def methods_for(self, task: Task) -> tuple[str, ...]:
        """The methods that can do that with it."""
        return methods_for(task, self.kind, self.lacks)

    def settle(self, request: Request, image: ImageSize | None = None) -> Request:
        """The request with its size, if it had none, as `generation.generate.settle` has it.

        Args:
            request: of this model.
            image: the size of the picture that it starts from.

        Raises:
            RequestError, RecipeError: for what this kind of model cannot be asked.
            SizeError: for a size that the model cannot make.
        """
        try:
            check_method(request, self.kind, self.lacks)
        except ModelError as error:  # of a model that the server chose: something else must be asked of it
            raise ParameterError("method", str(error)) from None
        own = self.guidance is not None and not says_guidance(request.model)
        if own and "guidance" not in request.model_fields_set:
            request = request.changed(guidance=self.guidance)
        if request.enlarge is not None:
            return request  # any size will do
        if request.width is None and image is not None:
            size = nearest_size(image, self.size_multiple)
            return request.changed(width=size.width, height=size.height)
        if request.width is None or request.height is None:
            return request.changed(width=self.width, height=self.height)
        check_size(request.height, request.width, self.size_multiple, reduction=None)
        return request
