"""The examples of docs/guide/server.md work as they are typed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from PIL import Image

from tests.support.running_server import Running

PAGE = Path(__file__).parents[2] / "docs" / "guide" / "server.md"
DOCUMENTED = "http://127.0.0.1:8000"


def test_the_examples_work_as_they_are_typed(server: Running, tmp_path: Path) -> None:
    blocks = re.findall(r"^```(sh|python)\n(.*?)^```", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    examples = [(kind, text) for kind, text in blocks if f"{DOCUMENTED}/v1" in text]
    assert [kind for kind, _ in examples] == ["sh", "python", "python", "sh"]
    said = []
    for kind, text in examples:
        command = ["bash", "-e", "-o", "pipefail", "-c"] if kind == "sh" else [sys.executable, "-c"]
        ran = subprocess.run(
            [*command, text.replace(DOCUMENTED, server.url)],
            cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr
        assert "error" not in ran.stdout.replace('"error":null', "").replace('"error": null', ""), ran.stdout
        said.append(ran.stdout)
    with Image.open(tmp_path / "fox.png") as image:
        assert image.size == (256, 256)
    assert '"id":"critters"' in said[0]
    assert f"{server.url}/v1/files/" in said[0]
    assert said[1].count("/v1/files/") == 2
    assert "event: image_generation.completed" in said[0]
    assert "image_generation.completed" in said[2]
    assert "event: done" in said[3]
    assert '"object":"list"' in said[3]
    assert '"deleted":true' in said[3]
