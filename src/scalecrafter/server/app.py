"""The whole server as an ASGI application: its routes, its guards, and what starts and stops with it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

from .._version import __version__
from . import failures, reference_page, routes_costs, routes_images, routes_jobs, routes_pictures, routes_service
from .guards import BodyGuard, KeyGuard, SiteGuard
from .housekeeping import Housekeeper
from .jobs import Jobs
from .metrics import CountRequests, Metrics
from .page import PageFactory, PageSwitch
from .planner import Planner
from .service import Service
from .settings import ServerSettings
from .supervisor import Supervisor

LARGEST_JSON = 1 << 20
"""Bytes of a body without pictures. It stays in memory until its pictures are made."""


def stop_this_process() -> None:
    """Stop the server of this process, as SIGTERM from the system would."""
    os.kill(os.getpid(), signal.SIGTERM)


def create_app(
    settings: ServerSettings,
    page: PageFactory | None = None,
    on_wrong_settings: Callable[[], None] = stop_this_process,
) -> FastAPI:
    """Make an application that serves `settings.models`. Its workers start when the application starts.

    Args:
        settings: of the server; the data folder is made if it is missing.
        page: makes the page for browsers at `/` (`ui.page.WebPage`); None: there is only the API.
        on_wrong_settings: called when no worker can work with these settings. The worker has written why to stderr.

    `app.state.jobs` is its `Jobs`. `app.state.stop_waiting()` tells waiting clients and the workers that the server
    stops soon.
    """
    jobs = Jobs(settings)
    metrics = Metrics(jobs.store, settings.lease)
    housekeeper = Housekeeper(settings, jobs.folders, jobs.store.database)
    supervisor = Supervisor(settings, on_wrong_settings)
    planner = Planner()
    own_page = page(jobs, planner) if page else None

    def stop_waiting() -> None:
        supervisor.ask_to_end()
        jobs.notifier.stop_waiting()

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(housekeeper.start)
        supervisor.start()
        jobs.notifier.start()
        try:
            yield
        finally:
            await planner.close()
            await jobs.notifier.end()
            await asyncio.to_thread(supervisor.end)
            await asyncio.to_thread(housekeeper.end)
            await asyncio.to_thread(housekeeper.recover)  # the pictures of killed workers
            jobs.close()

    app = FastAPI(title="ScaleCrafter", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.service = Service(settings, jobs, metrics, planner)
    app.state.jobs = jobs
    app.state.stop_waiting = stop_waiting
    failures.install(app)
    for routes in (routes_images, routes_costs, routes_jobs, routes_pictures, routes_service):
        app.include_router(routes.router)

    # A request passes the middleware that was added last first.
    if own_page is not None:
        app.add_middleware(PageSwitch, page=own_page)

    def is_page(path: str) -> bool:
        return path in reference_page.PATHS or (own_page is not None and own_page.owns(path))

    app.add_middleware(KeyGuard, keys=settings.keys, is_page=is_page)
    if settings.origins:
        app.add_middleware(
            CORSMiddleware, allow_origins=settings.origins, allow_methods=["GET", "POST", "DELETE"], allow_headers=["*"]
        )
    app.add_middleware(SiteGuard, origins=settings.origins, hosts=settings.hosts)
    limits = {routes_images.GENERATIONS: min(settings.limits.body, LARGEST_JSON)}
    limits |= own_page.upload_limits if own_page else {}
    app.add_middleware(BodyGuard, limit=settings.limits.body, timeout=settings.patience, limits=limits)
    app.add_middleware(CountRequests, metrics=metrics)
    return app
