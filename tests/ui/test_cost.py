"""The page says what a picture will take before it is made."""

from __future__ import annotations

import re
from typing import Any

import pytest

pytest.importorskip("playwright.sync_api", reason="the page's tests need playwright")


def test_the_page_tells_the_cost_beside_the_button_and_follows_the_form(page: Any) -> None:
    line = page.locator("#cost")
    line.filter(has_text=re.compile(r"A picture takes about .* memory")).wait_for(timeout=120_000)
    first = line.text_content()
    page.locator("#more summary").click()
    page.locator("#steps").fill("149")
    line.filter(has_not_text=first).filter(has_text="A picture takes about").wait_for()
    page.locator("#tab-enlarge").click()
    line.wait_for(state="hidden")
