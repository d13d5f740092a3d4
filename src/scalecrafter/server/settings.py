"""The settings of a server: limits, folders, models, keys. Plain values."""

from __future__ import annotations

import ipaddress
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from ..request.request import Request, RequestError

KEYS_VARIABLE = "SCALECRAFTER_API_KEYS"
"""Environment variable of API keys, separated by commas."""
SHORTEST_KEY = 16
"""Characters; a shorter key could be guessed."""


class LimitError(RequestError):
    """A valid request that asks for more than this server makes."""


class Limits(BaseModel):
    """What one request may ask for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    pixels: int = Field(default=4096 * 4096, ge=64, description="width × height of a picture, or of an upload")
    steps: int = Field(default=150, ge=1, le=1000)
    pictures: int = Field(default=10, ge=1, le=100, description="n of one request")
    prompt: int = Field(default=4000, ge=1, le=10_000, description="characters, of each of the two prompts")
    body: int = Field(default=20 << 20, ge=1024, description="bytes of a request's body")
    queue: int = Field(default=64, ge=1, description="pictures that wait")
    streams: int = Field(default=100, ge=1, description="clients that watch jobs")
    request: int = Field(default=64 << 10, ge=1024, description="bytes of a request's JSON, a recipe's text included")

    def check(self, request: Request, pictures: int = 1) -> None:
        """Raise `LimitError` with what was asked for and the limit."""
        if not 1 <= pictures <= self.pictures:
            raise LimitError(f"n is {pictures}: this server makes 1 to {self.pictures} pictures a request")
        if request.steps > self.steps:
            raise LimitError(f"steps is {request.steps}: this server runs at most {self.steps}")
        for name, text in (("prompt", request.prompt), ("negative", request.negative)):
            if len(text) > self.prompt:
                raise LimitError(f"{name} has {len(text)} characters: this server takes at most {self.prompt}")
        size = len(request.model_dump_json())
        if size > self.request:
            raise LimitError(f"the request has {size:,} bytes: this server takes at most {self.request:,}")
        area = (request.width or 0) * (request.height or 0)
        if area > self.pixels:
            raise LimitError(
                f"{request.width}x{request.height} is {area:,} pixels: this server makes at most {self.pixels:,}"
            )


class ServerSettings(BaseModel):
    """The settings of a server. A worker process gets them as JSON, without the API keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: Path = Field(description="folder of the jobs and pictures; made if missing")
    models: dict[str, str] = Field(min_length=1, description="name that clients use → what `load_pipeline` takes")
    limits: Limits = Limits()
    workers: int = Field(default=1, ge=1, le=64)
    dtype: str | None = None
    device: str = "auto"
    vae_memory: str = "auto"
    loaded: int = Field(default=1, ge=1, description="models that a worker keeps in memory")
    keys: tuple[SecretStr, ...] = Field(default=(), exclude=True)
    origins: tuple[str, ...] = Field(default=(), description="web pages of other sites that may ask (CORS)")
    hosts: tuple[str, ...] | None = Field(
        default=None, description="names that it may be called by, beside those of this machine's loopback; None: any"
    )
    keep_hours: float = Field(default=24.0, gt=0, description="finished jobs and pictures are removed after this")
    keep_bytes: int = Field(default=10 << 30, ge=1 << 20, description="of pictures; the oldest go first")
    grace: float = Field(default=30.0, ge=0, description="seconds that a running picture has at shutdown")
    lease: float = Field(
        default=30.0, gt=0, description="seconds without a heartbeat after which a worker counts as hung"
    )
    attempts: int = Field(default=3, ge=1, description="workers that may die with one picture before it is given up")
    patience: float = Field(default=30.0, gt=0, description="seconds to wait for the next piece of a body")
    header_patience: float = Field(default=10.0, gt=0, description="seconds until a request's headers must be there")

    @property
    def default_model(self) -> str:
        """The model of requests that name none: the first."""
        return next(iter(self.models))

    def model_key(self, name: str) -> str:
        """The name of a model and where it is: servers that share a folder make those jobs that have such a key."""
        where = self.models[name]
        path = Path(where).expanduser()
        return json.dumps([name, str(path.absolute()) if path.exists() else where])

    @property
    def model_keys(self) -> dict[str, str]:
        """The key of each model."""
        return {name: self.model_key(name) for name in self.models}


def name_models(given: list[str]) -> dict[str, str]:
    """Models by the names that clients use, from `--model` options: "where" or "name=where" (`RequestError`).

    Without a name, an embedded model and a hub id are called what they are; a folder or file by its last part.
    """
    named: dict[str, str] = {}
    for option in given:
        name, separator, where = option.partition("=")
        if not separator:
            where = option
            name = Path(option).expanduser().absolute().stem if os.path.exists(Path(option).expanduser()) else option
        if not name or not where:
            raise RequestError(f"--model {option!r}: give a model, or NAME=MODEL")
        if name in named:
            raise RequestError(f"two models are called {name!r}: give one another name, as --model other={where}")
        named[name] = where
    return named


def read_keys(file: Path | None, environment: Mapping[str, str] = os.environ) -> tuple[SecretStr, ...]:
    """API keys from a file (one a line, # for remarks) and from SCALECRAFTER_API_KEYS (`RequestError`)."""
    found = [key.strip() for key in environment.get(KEYS_VARIABLE, "").split(",")]
    if file is not None:
        try:
            lines = file.read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise RequestError(f"cannot read the API keys in {str(file)!r}: {error}") from None
        found += [line.strip() for line in lines if not line.lstrip().startswith("#")]
    keys = [key for key in found if key]
    if file is not None and not keys:
        raise RequestError(f"{str(file)!r} holds no API key: write one on each line")
    if any(len(key) < SHORTEST_KEY or not key.isascii() for key in keys):
        raise RequestError(
            f"an API key is shorter than {SHORTEST_KEY} characters, or not ASCII: make one with "
            "`python -c 'import secrets; print(secrets.token_urlsafe(32))'`"
        )
    return tuple(SecretStr(key) for key in keys)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens there."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def check_exposure(host: str, keys: tuple[Any, ...], anyone: bool) -> None:
    """Refuse to listen to a network without API keys, unless the user allows it (`RequestError`)."""
    if not is_loopback(host) and not keys and not anyone:
        raise RequestError(
            f"listening on {host} lets everyone on the network use this server: set API keys "
            f"({KEYS_VARIABLE} or --api-keys FILE), listen on 127.0.0.1, or add --allow-anyone"
        )
