"""Submit jobs and watch them: the interface that the HTTP routes and the web page use.

    jobs = Jobs(settings)                       # one per process; makes the data folder
    job = jobs.submit(request, pictures=4)      # a Request; returns at once with the id of a job that is on the disk
    jobs.get(job)                               # records.ServerJob: status, pictures with step, steps, seed, failure
    for state in jobs.events(job): ...          # a ServerJob after every change, until it is final (for threads)
    async for state in jobs.watch(job): ...     # the same on the event loop
    jobs.preview(picture.id)                    # JPEG bytes of the latest preview, while the picture is being made
    jobs.picture_path(picture.id)               # its PNG, once picture.status is "done"
    jobs.cancel(job)
    jobs.newest(client, limit=20)               # a client's jobs, newest first
    jobs.remove(job)                            # with its pictures; or one picture of it

All but `watch` may block for some milliseconds: on an event loop, call them with `asyncio.to_thread`. A wrong request
raises the errors of the command line (`RequestError` and its kin), `LimitError`, `UnknownModelError`, `QueueFullError`
or `UnknownJobError`. In an application of `app.create_app`, this object is `app.state.jobs`. Worker processes
(`worker`) make the pictures; they use the same store.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from .._util.sizes import ImageSize
from .._util.text import near_names
from ..recipes.recipe import Recipe, near_recipes, shipped_recipes
from ..request.enlarge_source import enlarged_size
from ..request.request import DIRECT, Request, RequestError
from .changes import ChangeNotifier
from .database import Database
from .folders import Folders
from .records import NOBODY, Client, ServerJob
from .removal import remove_job, remove_picture
from .settings import ServerSettings
from .store import Store
from .uploads import PICTURE_FIELDS, keep_upload, upload_name, upload_size, with_pictures

_POLL = 0.1


class UnknownModelError(RequestError):
    """A model that this server does not serve."""


class Jobs:
    """The jobs of one server; see the top of this file."""

    def __init__(self, settings: ServerSettings) -> None:
        self.settings = settings
        self.folders = Folders(settings.data)
        self.folders.make()
        self.store = Store(Database(self.folders.jobs), settings.model_keys)
        self.notifier = ChangeNotifier(self.store)

    def submit(
        self,
        request: Request,
        pictures: int = 1,
        files: Mapping[str, bytes] = MappingProxyType({}),
        repeat_key: str | None = None,
        client: Client = NOBODY,
    ) -> str:
        """Accept a job.

        Args:
            request: what to make. `model` is one of `settings.models`. `dtype` and `device` are replaced by the
                server's. `image` and `mask` are paths, unless `files` has their content.
            pictures: how many. Their seeds count up from the request's.
            files: the contents of the request's `image` and `mask`, whose names do not matter then.
            repeat_key: a second submission with the same key returns the job of the first one.
            client: who may list it.

        Raises:
            RequestError, RecipeError, SizeError, LimitError, UnknownModelError: what is wrong with it.
            QueueFullError: the queue is full. Nothing was kept.
        """
        self.check_model(request.model)
        self.settings.limits.check(request, pictures)
        request = without_files(request)
        request = request.changed(dtype=self.settings.dtype, device=self.settings.device)
        uploads = {
            field: files[field] if field in files else _read(field, getattr(request, field))
            for field in PICTURE_FIELDS
            if getattr(request, field) is not None
        }
        own = upload_size("image", uploads["image"], self.settings.limits.pixels) if request.image else None
        settled = self._settled(request, own, pictures)
        # The size of the image that it starts from stays open, so that its worker can say what it came to.
        request = request if request.task == "edit" and request.width is None else settled
        names = {field: upload_name(field, data, self.settings.limits.pixels) for field, data in uploads.items()}
        request = with_pictures(request, names)

        def write_uploads() -> None:
            for field, data in uploads.items():
                keep_upload(self.folders, names[field], data)

        limit = self.settings.limits.queue
        return self.store.add(request, pictures, limit, tuple(names.values()), repeat_key, write_uploads, client)[0]

    def planned(self, request: Request, image: ImageSize | None = None) -> Request:
        """A request, settled as far as its model is known, for its plan or its cost.

        It names the model by where it is, and the server's device and dtype.

        Args:
            request: what is asked.
            image: the size of the picture that it starts from.

        Raises:
            RequestError, RecipeError, SizeError, LimitError, UnknownModelError: what is wrong with it.
        """
        self.check_model(request.model)
        self.settings.limits.check(request)
        request = self._settled(without_files(request), image)
        where = self.settings.models[request.model]
        return request.changed(model=where, dtype=self.settings.dtype, device=self.settings.device)

    def _settled(self, request: Request, image: ImageSize | None, pictures: int = 1) -> Request:
        """With its size, where that can be known: from the picture that it starts from, or from its model."""
        facts = self.store.facts(request.model)
        if facts is not None:
            request = facts.settle(request, image)
        if request.enlarge is not None:
            size = enlarged_size(request, image)
            request = request.changed(width=size.width, height=size.height)
        self.settings.limits.check(request, pictures)
        return request

    def check_model(self, name: str) -> None:
        """Raise `UnknownModelError`, with the names of the models, for a model that is not served."""
        if name in self.settings.models:
            return
        known = f"Known: {', '.join(self.settings.models)}"
        hint = " ".join(filter(None, (near_names(name, self.settings.models, most=1), known)))
        raise UnknownModelError(f"there is no model {name!r} here: {hint}")

    def get(self, job: str) -> ServerJob:
        """A job as it is now (`UnknownJobError`)."""
        return self.store.job(job)

    def cancel(self, job: str) -> ServerJob:
        """Cancel the unfinished pictures of a job; the finished ones stay (`UnknownJobError`)."""
        self.store.cancel(job)
        return self.store.job(job)

    def newest(self, client: Client, limit: int, after: str | None = None) -> list[ServerJob]:
        """At most `limit` of a client's jobs, newest first; with `after`, older ones than that (`UnknownJobError`)."""
        return self.store.newest(client, limit, after)

    def remove(self, job: str, position: int | None = None) -> None:
        """Remove a job with its pictures, or its picture at one position, for good (`UnknownJobError`)."""
        self.store.job(job)
        if position is None:
            remove_job(self.store.database, self.folders, job)
        else:
            remove_picture(self.store.database, self.folders, job, position)

    def preview(self, picture: str) -> bytes | None:
        """The latest preview of a picture that is being made: a small JPEG."""
        return self.store.preview(picture)

    def picture_path(self, picture: str) -> Path:
        """Where the PNG of a picture is, or will be (`ValueError` for a wrong id)."""
        return self.folders.picture(picture)

    def events(self, job: str, timeout: float | None = None) -> Iterator[ServerJob]:
        """The job now and after every change, until it is final; for threads (`UnknownJobError`, `TimeoutError`)."""
        ends = None if timeout is None else time.monotonic() + timeout
        seen: ServerJob | None = None
        while True:
            state = self.store.job(job)
            if state != seen:
                yield state
            if state.is_final:
                return
            if ends is not None and time.monotonic() > ends:
                raise TimeoutError(f"the job {job} is still {state.status} after {timeout:g} s")
            seen = state
            time.sleep(_POLL)

    async def watch(self, job: str, repeat: float = 15.0) -> AsyncIterator[ServerJob]:
        """The job now, after every change, and every `repeat` seconds; until it is final or the server ends."""
        with self.notifier.changes_of(job) as changed:
            while True:
                changed.clear()
                state = await asyncio.to_thread(self.store.job, job)
                yield state
                if state.is_final or (self.notifier.stopping and not _is_being_made(state)):
                    return
                pause = min(repeat, 0.2) if self.notifier.stopping else repeat
                try:
                    await asyncio.wait_for(changed.wait(), pause)
                except TimeoutError:
                    continue

    def close(self) -> None:
        """Close the store."""
        self.store.database.close()


def _is_being_made(job: ServerJob) -> bool:
    return any(picture.status == "running" for picture in job.pictures)


def without_files(request: Request) -> Request:
    """A client's request, in which nothing names a file of the server.

    Its recipe is a shipped name, "none", "auto" or TOML text; a method's own settings name no file or model.

    Raises:
        RecipeError, RequestError: for one that does, whether that file exists or not.
    """
    settings = request.settings
    for name in sorted(settings.not_from_clients) if settings is not None else ():
        if getattr(settings, name) is not None:
            raise RequestError(f"{request.method}.{name} is for the one who runs this server: leave it out")
    return request.changed(recipe=_recipe_without_files(request.recipe))


def _recipe_without_files(recipe: str | None) -> str | None:
    if recipe is None or recipe == "auto":
        return None
    if recipe == DIRECT or recipe in shipped_recipes():
        return recipe
    if "=" in recipe:
        return Recipe.parse(recipe, "the given recipe text").to_toml()
    hint = near_recipes(recipe) or ":"
    raise RequestError(f"no shipped recipe is named {recipe!r}{hint} Give a shipped name, auto, none, or TOML text")


def _read(field: str, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise RequestError(f"cannot read the {field} {path!r}: {error.strerror}") from None
