"""A tiny model, and a cache of its own for what its pictures take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scalecrafter.generation import timings
from scalecrafter.generation.timings import CACHE
from scalecrafter.models.loading import load_pipeline
from tests.support.tiny_models import tiny_sd_pipeline


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cost") / "tiny"
    tiny_sd_pipeline(layers_per_block=1).save_pretrained(path)
    return path


@pytest.fixture(scope="session")
def pipe(folder: Path) -> Any:
    return load_pipeline(folder, device="cpu")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE, str(tmp_path / "cache"))
    monkeypatch.setattr(timings, "_PAUSE", 0.0)
    return tmp_path / "cache"
