"""A missing package is named with the extra that brings it."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import pytest

from scalecrafter._util.extras import PACKAGES, MissingExtraError, need_extra


def test_what_is_missing_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "modules", {})
    with pytest.raises(MissingExtraError) as raised:
        need_extra("batch", "batch", instead="make them one by one")
    assert str(raised.value) == (
        "batch needs pyarrow and fsspec: pip install 'scalecrafter[batch]' (or make them one by one)"
    )


def test_the_packages_are_those_of_the_project(request: pytest.FixtureRequest) -> None:
    project = tomllib.loads((Path(request.config.rootpath) / "pyproject.toml").read_text())["project"]
    for extra, packages in PACKAGES.items():
        required = " ".join(project["optional-dependencies"][extra]).lower()
        for name in packages.values():
            needed_anyway = "torchmetrics" if extra == "inception" else None
            assert name.lower() in required or name == needed_anyway, (extra, name)
