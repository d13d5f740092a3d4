"""`scalecrafter ui`: the page in a browser, with the server behind it."""

from __future__ import annotations

from . import serving_options as serving
from .app import Command, app
from .options import AUTOMATIC, VaeMemory
from .serve import serve


@app.command("ui", cls=Command)
def ui(
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
) -> None:
    """Serve a page for browsers and print its address: `serve --page` with fewer options."""
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
