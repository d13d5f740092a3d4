"""The page says what a picture will take before it is made."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

pytest.importorskip("playwright.sync_api", reason="the page's tests need playwright")


def test_the_page_tells_the_cost_beside_the_button_and_follows_the_form(page: Any) -> None:
    line = page.locator("#cost")
    line.filter(has_text=re.compile(r"A picture takes about .* memory")).wait_for(timeout=120_000)
    first = line.text_content()
    page.locator("#more summary").click()
    page.locator("#steps").fill("149")
    line.filter(has_not_text=first).filter(has_text="A picture takes about").wait_for()


def test_edits_and_enlargements_tell_theirs_once_there_is_a_picture(page: Any, tmp_path: Path) -> None:
    Image.new("RGB", (128, 192)).save(tmp_path / "photo.png")
    line = page.locator("#cost")
    known = re.compile(r"A picture takes about .* memory")
    bodies: list[dict[str, Any]] = []
    page.on("request", lambda one: bodies.append(one.post_data_json) if one.url.endswith("/v1/estimate") else None)
    line.filter(has_text=known).wait_for(timeout=120_000)
    page.locator("#tab-enlarge").click()
    line.wait_for(state="hidden")
    page.locator("#source-file").set_input_files(tmp_path / "photo.png")
    line.filter(has_text=known).wait_for(timeout=60_000)
    assert bodies[-1]["image_size"] == "128x192"
    assert "image" not in bodies[-1]
    page.locator("#tab-edit").click()
    line.wait_for(state="hidden")
    page.locator("#source-file").set_input_files(tmp_path / "photo.png")
    line.filter(has_text=known).wait_for(timeout=60_000)
    page.locator("input[name=part][value=painted]").check()
    line.filter(has_text=known).wait_for(timeout=60_000)
    with page.expect_request("**/v1/estimate") as asked:
        page.locator("#steps").evaluate(
            "field => { field.value = 12; field.dispatchEvent(new Event('input', { bubbles: true })) }"
        )
    assert asked.value.post_data_json["mask"] is True
