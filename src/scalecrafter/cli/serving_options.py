"""The options that `serve` and `ui` share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Models = Annotated[
    list[str] | None,
    typer.Option("--model", "-m", help="What to offer, as MODEL or NAME=MODEL; repeatable. \\[default: critters]"),
]
Host = Annotated[str, typer.Option("--host", help="Address to listen on.")]
Port = Annotated[int, typer.Option("--port", "-p", min=0, max=65535, help="0 takes any free one.")]
Data = Annotated[
    Path, typer.Option("--data", help="Folder of jobs and pictures; a restart goes on with what is there.")
]
Workers = Annotated[int, typer.Option("--workers", min=1, max=64, help="Processes that make pictures.")]
Dtype = Annotated[str | None, typer.Option("--dtype", help="fp32, fp16 or bf16. \\[default: fp16 on CUDA, else fp32]")]
Device = Annotated[
    str, typer.Option("--device", help="auto (several GPUs: each worker takes the next), cpu, cuda, cuda:1, mps.")
]
ApiKeys = Annotated[
    Path | None,
    typer.Option(
        "--api-keys",
        help="File of API keys, one a line; also from SCALECRAFTER_API_KEYS, with commas. "
        "For the page a browser asks for one as the password, with any name.",
    ),
]
AllowAnyone = Annotated[bool, typer.Option("--allow-anyone", help="Listen to the network without API keys.")]

HOST, PORT, DATA = "127.0.0.1", 8000, Path("scalecrafter-server")
