"""Health checks and figures."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse, Response

from . import spec
from .answers import Health
from .service import Service, the_service

router = APIRouter()
TheService = Annotated[Service, Depends(the_service)]


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
