"""Health checks and figures."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response

from . import spec
from .answers import Health
from .reference_page import POLICY, reference_page
from .service import Service, the_service

router = APIRouter()
TheService = Annotated[Service, Depends(the_service)]


@router.get("/docs", response_class=HTMLResponse, include_in_schema=False)
async def docs(request: Request) -> HTMLResponse:
    """This API, as a page to read."""
    page = reference_page(request.app.openapi(), str(request.base_url))
    return HTMLResponse(page, headers={"Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff"})


@router.get("/healthz")
async def healthz() -> Health:
    """Whether the server answers."""
    return Health(status="ok")


@router.get("/readyz", responses={503: {"model": Health, "description": "not yet, or no longer"}})
async def readyz(service: TheService) -> Any:
    """Whether pictures are being made: a worker has its model loaded, and the store can be used."""
    store = service.jobs.store
    workers = await asyncio.to_thread(store.ready_workers, 3 * service.settings.lease)
    waiting = await asyncio.to_thread(store.waiting)
    if service.jobs.notifier.stopping or not workers:
        status = "stopping" if service.jobs.notifier.stopping else "starting"
        return JSONResponse(Health(status=status, workers=workers, waiting=waiting).model_dump(), 503)
    return Health(status="ready", workers=workers, waiting=waiting)


@router.get("/metrics", response_class=Response, responses=spec.METRICS)
async def metrics(service: TheService) -> Response:
    """Figures for Prometheus."""
    text, kind = await asyncio.to_thread(service.metrics.text)
    return Response(text, media_type=kind)
