"""`scalecrafter ui`: the page in a browser, with the server behind it."""

from __future__ import annotations

from .app import app
from .options import AUTOMATIC, VaeMemory
from .serve import serve
from .serving_options import (
    DATA,
    HOST,
    PORT,
    AllowAnyone,
    ApiKeys,
    Data,
    Device,
    Dtype,
    Host,
    Models,
    Port,
    Workers,
)


@app.command("ui")
def ui(
    model: Models = None,
    host: Host = HOST,
    port: Port = PORT,
    data: Data = DATA,
    workers: Workers = 1,
    dtype: Dtype = None,
    device: Device = "auto",
    vae_memory: VaeMemory = AUTOMATIC,
    api_keys: ApiKeys = None,
    allow_anyone: AllowAnyone = False,
) -> None:
    """Serve a page for browsers, and tell its address: `serve --page` with the options that matter for it."""
    serve(
        model=model,
        host=host,
        port=port,
        data=data,
        workers=workers,
        dtype=dtype,
        device=device,
        vae_memory=vae_memory,
        api_keys=api_keys,
        allow_anyone=allow_anyone,
        page=True,
    )
