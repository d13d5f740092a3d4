"""`scalecrafter serve`: pictures over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from .._util.extras import need_extra
from .._util.memory import parse_bytes
from .._util.text import explain, setting_names
from ..models.sources import locate
from ..request.request import RequestError
from . import serving_options as serving
from .app import WRONG_USE, Command, app
from .options import AUTOMATIC, VaeMemory
from .output import Reporter

if TYPE_CHECKING:
    from ..server.page import PageFactory


@app.command("serve", cls=Command)
def serve(
    model: serving.Models = None,
    host: serving.Host = serving.HOST,
    port: serving.Port = serving.PORT,
    data: serving.Data = serving.DATA,
    workers: serving.Workers = 1,
    dtype: serving.Dtype = None,
    device: serving.Device = "auto",
    vae_memory: VaeMemory = AUTOMATIC,
    api_keys: serving.ApiKeys = None,
    allow_anyone: serving.AllowAnyone = False,
    cors: Annotated[
        list[str] | None,
        typer.Option("--cors", help="Web site, as https://example.org, whose pages may use this server; repeatable."),
    ] = None,
    host_name: Annotated[
        list[str] | None,
        typer.Option("--host-name", help="Another host name that clients on this machine use; repeatable."),
    ] = None,
    queue: Annotated[int, typer.Option("--queue", min=1, help="Most pictures that may wait.")] = 64,
    max_pixels: Annotated[
        int, typer.Option("--max-pixels", min=64, help="Most pixels of a picture, width × height.")
    ] = 4096 * 4096,
    max_steps: Annotated[int, typer.Option("--max-steps", min=1, max=1000, help="Most steps of a picture.")] = 150,
    max_pictures: Annotated[
        int, typer.Option("--max-pictures", min=1, max=100, help="Most pictures of a request.")
    ] = 10,
    max_body: Annotated[
        str, typer.Option("--max-body", metavar="SIZE", help="Largest request, uploads included.")
    ] = "20MiB",
    keep_hours: Annotated[float, typer.Option("--keep-hours", help="Hours until pictures are deleted.")] = 24.0,
    keep_size: Annotated[
        str,
        typer.Option("--keep-size", metavar="SIZE", help="Size of all pictures; above it the oldest are deleted."),
    ] = "10GiB",
    grace: Annotated[
        float, typer.Option("--grace", min=0.0, help="Seconds that a running picture may take at shutdown.")
    ] = 30.0,
    page: Annotated[
        bool, typer.Option("--page", help="Also serve a page for browsers at /, as `scalecrafter ui` does.")
    ] = False,
    log_requests: Annotated[bool, typer.Option("--log-requests", help="Print a line for each request.")] = False,
) -> None:
    """Serve pictures over HTTP: OpenAI's Images API, jobs with progress, metrics.  Ctrl-C or SIGTERM ends it."""
    need_extra("serve", "server")
    from pydantic import ValidationError

    from ..server.run import address, listen
    from ..server.run import serve as run_server
    from ..server.settings import Limits, ServerSettings, check_exposure, is_loopback, name_models, read_keys

    keys = read_keys(api_keys)
    check_exposure(host, keys, allow_anyone)
    try:
        settings = ServerSettings(
            data=data,
            models=name_models(model or ["critters"]),
            limits=Limits(
                queue=queue,
                pixels=max_pixels,
                steps=max_steps,
                pictures=max_pictures,
                body=_size("--max-body", max_body),
            ),
            workers=workers,
            dtype=dtype,
            device=device,
            vae_memory=vae_memory,
            keys=keys,
            origins=tuple(cors or ()),
            hosts=tuple(host_name or ()) if is_loopback(host) and not keys else None,
            keep_hours=keep_hours,
            keep_bytes=_size("--keep-size", keep_size),
            grace=grace,
        )
    except ValidationError as error:
        raise RequestError(explain(error, setting_names(ServerSettings))) from None
    for where in settings.models.values():
        locate(where)
    with listen(host, port) as listening:
        where = address(host, listening)
        Reporter().note(f"serving {', '.join(settings.models)} on {where} (data in {str(data)!r}; Ctrl-C ends it)")
        print(where, flush=True)
        if not run_server(settings, listening, log_requests, _page() if page else None):
            raise typer.Exit(WRONG_USE)


def _page() -> PageFactory:
    from ..ui.page import WebPage

    return WebPage


def _size(option: str, text: str) -> int:
    """Bytes of "20MiB" and the like (`RequestError`)."""
    size = None if text.strip().isdecimal() else parse_bytes(text)
    if size is None:
        raise RequestError(f"{option} is {text!r}: give a size with its unit, as 500MiB or 10GiB")
    return size
