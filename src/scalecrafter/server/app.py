"""The whole server as an ASGI application: routes, guards, and what begins and ends with it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

from .._version import __version__
from ..ui.site import UPLOAD_PATH, PageSwitch, Site, is_of_the_page, most_upload
from . import failures, routes_images, routes_jobs, routes_service
from .guards import BodyGuard, KeyGuard, SiteGuard
from .housekeeping import Housekeeper
from .jobs import Jobs
from .metrics import CountRequests, Metrics
from .service import Service
from .settings import Settings
from .supervisor import Workers


def stop_this_process() -> None:
    """Ask the server of this process to end, as the system would."""
    os.kill(os.getpid(), signal.SIGTERM)


def create_app(settings: Settings, on_wrong_settings: Callable[[], None] = stop_this_process) -> FastAPI:
    """An application that serves `settings.models`; it makes the data folder, and starts workers when it starts.

    Args:
        settings: all of them.
        on_wrong_settings: called when no worker can work with these settings; it has said why on stderr.

    `app.state.jobs` is its `Jobs`; `app.state.stop_waiting` a function that makes the coming end known to waiting
    clients and to the workers.
    """
    jobs = Jobs(settings)
    metrics = Metrics(jobs.store, settings.lease)
    housekeeper = Housekeeper(settings, jobs.folders, jobs.store.database)
    workers = Workers(settings, on_wrong_settings)
    site = Site(jobs) if settings.page else None

    def stop_waiting() -> None:
        workers.ask_to_end()
        jobs.watcher.stop_waiting()
        if site is not None:
            site.stop_waiting()

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(housekeeper.start)
        workers.start()
        jobs.watcher.start()
        try:
            async with site.running() if site else nullcontext():
                yield
        finally:
            await jobs.watcher.end()
            await asyncio.to_thread(workers.end)
            await asyncio.to_thread(housekeeper.end)
            await asyncio.to_thread(housekeeper.recover)  # what a killed worker was at
            jobs.close()

    app = FastAPI(title="ScaleCrafter", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.service = Service(settings, jobs, metrics)
    app.state.jobs = jobs
    app.state.workers = workers
    app.state.stop_waiting = stop_waiting
    failures.install(app)
    for routes in (routes_images, routes_jobs, routes_service):
        app.include_router(routes.router)

    # The last one added is the first that a request meets.
    if site is None:
        app.add_middleware(KeyGuard, keys=settings.keys)
    else:
        app.add_middleware(PageSwitch, site=site)
        app.add_middleware(KeyGuard, keys=settings.keys, is_page=is_of_the_page)
    if settings.origins:
        app.add_middleware(
            CORSMiddleware, allow_origins=settings.origins, allow_methods=["GET", "POST", "DELETE"], allow_headers=["*"]
        )
    app.add_middleware(SiteGuard, origins=settings.origins, hosts=settings.hosts)
    larger = {UPLOAD_PATH: most_upload(settings.limits.body, settings.limits.pixels)} if site else {}
    app.add_middleware(BodyGuard, most=settings.limits.body, patience=settings.patience, larger=larger)
    app.add_middleware(CountRequests, metrics=metrics)
    return app
