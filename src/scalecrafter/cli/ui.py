"""`scalecrafter ui`: the page in a browser, with the server behind it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .app import app
from .options import AUTOMATIC, VaeMemory
from .serve import serve


@app.command("ui")
def ui(
    model: Annotated[
        list[str] | None,
        typer.Option("--model", "-m", help="What to offer, as MODEL or NAME=MODEL; repeatable. \\[default: critters]"),
    ] = None,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", "-p", min=0, max=65535, help="0 takes any free one.")] = 8000,
    data: Annotated[
        Path, typer.Option("--data", help="Folder of jobs and pictures; a restart goes on with what is there.")
    ] = Path("scalecrafter-server"),
    workers: Annotated[int, typer.Option("--workers", min=1, max=64, help="Processes that make pictures.")] = 1,
    dtype: Annotated[
        str | None, typer.Option("--dtype", help="fp32, fp16 or bf16. \\[default: fp16 on CUDA, else fp32]")
    ] = None,
    device: Annotated[
        str, typer.Option("--device", help="auto (several GPUs: each worker takes the next), cpu, cuda, cuda:1, mps.")
    ] = "auto",
    vae_memory: VaeMemory = AUTOMATIC,
    api_keys: Annotated[
        Path | None,
        typer.Option("--api-keys", help="File of API keys; the browser asks for one as the password, with any name."),
    ] = None,
    allow_anyone: Annotated[
        bool, typer.Option("--allow-anyone", help="Listen to the network without API keys.")
    ] = False,
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
