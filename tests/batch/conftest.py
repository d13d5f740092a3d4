"""The model of the batch tests, once for all of them."""

from __future__ import annotations

import pytest

from tests.support.tiny_models import tiny_sd_pipeline


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("batch") / "tiny"
    tiny_sd_pipeline(layers_per_block=1).save_pretrained(path)
    return str(path)
