"""The command line.  One file a command; torch and diffusers are imported inside the commands, so help is quick."""

from __future__ import annotations

import os

from . import batch, bench, compare, disperse, doctor, enlarge, eval, generate, plan, recipes, serve, ui
from .app import app

__all__ = [
    "app", "batch", "bench", "compare", "disperse", "doctor", "enlarge", "eval", "generate", "main", "plan", "recipes",
    "serve", "ui",
]  # fmt: skip


def main() -> None:
    """Run the command that the process was started with."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # it tells of packages that this one does not use
    app(prog_name="scalecrafter")
