"""The Dockerfiles say what the package can do: files that are there, a command line that is understood."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import typer.main

from scalecrafter.cli.app import app

ROOT = Path(__file__).parents[1]
DOCKERFILES = [ROOT / "Dockerfile", ROOT / "examples" / "space" / "Dockerfile"]
INSTRUCTIONS = {
    *("ARG", "FROM", "WORKDIR", "COPY", "RUN", "USER", "ENV", "VOLUME", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT", "CMD"),
}


def instructions(path: Path) -> list[tuple[str, str]]:
    """(instruction, arguments), continued lines joined."""
    lines = [line for line in path.read_text("utf-8").splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [(line.partition(" ")[0], line.partition(" ")[2]) for line in joined.splitlines() if line.strip()]


@pytest.mark.parametrize("path", DOCKERFILES, ids=["server", "space"])
def test_the_command_of_a_container_is_one_that_the_program_understands(path: Path) -> None:
    found = instructions(path)
    assert {name for name, _ in found} <= INSTRUCTIONS
    command = next(json.loads(rest) for name, rest in reversed(found) if name in ("ENTRYPOINT", "CMD"))
    assert command[:2] == ["scalecrafter", "serve"]
    serve = typer.main.get_command(app).commands["serve"]  # type: ignore[attr-defined]
    values = serve.make_context("serve", command[2:]).params
    assert values["host"] == "0.0.0.0"
    assert f"EXPOSE {values['port']}" in path.read_text("utf-8")
    assert ("USER", "1000") in found


def test_what_is_copied_into_the_image_is_not_ignored() -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line.startswith("!")}
    assert all((ROOT / name).exists() for name in kept)
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    assert {"src", "pyproject.toml", "README.md", "LICENSE", "constraints.txt"} == kept
    assert 'readme = "README.md"' in project


def test_a_health_check_asks_the_servers_own_port() -> None:
    check = next(rest for name, rest in instructions(ROOT / "Dockerfile") if name == "HEALTHCHECK")
    program = json.loads(check[check.index("[") :])
    compile(program[-1], "health check", "exec")
    assert ":8000/healthz" in program[-1]


def test_a_space_says_what_hugging_face_reads() -> None:
    text = (ROOT / "examples" / "space" / "README.md").read_text("utf-8")
    assert text.startswith("---\n")
    front = dict(line.split(": ", 1) for line in text.split("---\n")[1].splitlines())
    assert front["sdk"] == "docker"
    assert f"EXPOSE {front['app_port']}" in (ROOT / "examples" / "space" / "Dockerfile").read_text("utf-8")
