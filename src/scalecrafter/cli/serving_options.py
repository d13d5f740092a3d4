"""The options that `serve` and `ui` share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Models = Annotated[
    list[str] | None,
    typer.Option("--model", "-m", help="Model to serve, as MODEL or NAME=MODEL; repeatable. \\[default: critters]"),
]
Host = Annotated[str, typer.Option("--host", help="Address to listen on.")]
Port = Annotated[int, typer.Option("--port", "-p", min=0, max=65535, help="Port; 0 takes any free one.")]
Data = Annotated[
    Path, typer.Option("--data", help="Folder of jobs and pictures; after a restart the server continues them.")
]
Workers = Annotated[int, typer.Option("--workers", min=1, max=64, help="Number of processes that make pictures.")]
Dtype = Annotated[str | None, typer.Option("--dtype", help="fp32, fp16 or bf16. \\[default: fp16 on CUDA, else fp32]")]
Device = Annotated[
    str, typer.Option("--device", help="auto (several GPUs: each worker takes the next), cpu, cuda, cuda:1, mps.")
]
ApiKeys = Annotated[
    Path | None,
    typer.Option(
        "--api-keys",
        help="File with an API key on each line; also read from SCALECRAFTER_API_KEYS, separated by commas. "
        "On the page, a key is the password of any user name.",
    ),
]
AllowAnyone = Annotated[bool, typer.Option("--allow-anyone", help="Let the network use the server without keys.")]

HOST, PORT, DATA = "127.0.0.1", 8000, Path("scalecrafter-server")
