"""The same application as replicas under Ray Serve, one to a GPU.

    serve run scalecrafter.server.ray_serve:application model=critters data=/srv/pictures replicas=2 gpus=1

Each replica is the whole application with one worker, which uses the GPU that Ray gave to the replica. The replicas
share the data folder: each can answer for every job, and takes over the jobs of a replica that died. SQLite needs a
local disk, so all replicas run on one machine. Needs the extra `ray`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field
from ray import serve

from .app import create_app
from .settings import ServerSettings, name_models, read_keys

_WAITING = 100
"""Requests a replica takes beside those that wait for pictures."""


class Arguments(BaseModel):
    """What `serve run` takes as name=value."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field(default="critters", description="as `scalecrafter serve --model`; several with commas")
    data: Path
    replicas: int = Field(default=1, ge=1)
    gpus: float = Field(default=1.0, ge=0.0, description="of each replica; 0 on machines without")
    api_keys: Path | None = Field(default=None, description="file of API keys; also from SCALECRAFTER_API_KEYS")


def application(arguments: Arguments) -> Any:
    """The application for `serve run`."""
    settings = ServerSettings(
        data=arguments.data.absolute(),
        models=name_models(arguments.model.split(",")),
        keys=read_keys(arguments.api_keys, os.environ),
    )
    return deployment(settings, arguments.replicas, arguments.gpus)


def deployment(settings: ServerSettings, replicas: int = 1, gpus: float = 1.0) -> Any:
    """A Ray Serve application of that many replicas, each with one worker on `gpus` GPUs."""
    settings = settings.model_copy(update={"workers": 1})

    def build() -> FastAPI:
        return create_app(settings)

    replica = serve.deployment(
        name="scalecrafter",
        num_replicas=replicas,
        max_ongoing_requests=settings.limits.queue + settings.limits.streams + _WAITING,
        ray_actor_options={"num_gpus": gpus, "num_cpus": 1},
        graceful_shutdown_timeout_s=settings.grace + 60,
    )
    return replica(serve.ingress(build)()).bind()
