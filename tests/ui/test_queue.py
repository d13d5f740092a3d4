"""Many jobs at once, and what the page says while they wait."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from PIL import Image

from tests.support.browser import GALLERY, QUEUE, count, fill, make, settled, until

LONG = 140


def test_all_that_waits_is_cancelled_at_once_and_what_is_made_stays(page: Any) -> None:
    make(page, "made", steps=1)
    count(page, GALLERY, 1)
    settled(page)
    assert not page.locator("#cancel-all").is_visible()
    for name in ("one", "two", "three"):
        make(page, name, steps=LONG)
    count(page, QUEUE, 3)
    page.get_by_role("button", name="Cancel all").click()
    settled(page)
    assert not page.locator("#cancel-all").is_visible()
    assert page.locator(GALLERY).count() == 1
    until(page, "document.querySelector('.pane > img')?.alt === 'made'")  # what was there comes back


def test_a_problem_is_gone_once_its_reader_goes_on(page: Any) -> None:
    make(page, width=100)
    until(page, "document.querySelector('#problem').textContent !== ''")
    fill(page, width=128)
    assert page.locator("#problem").inner_text() == ""
    assert page.locator("[aria-invalid]").count() == 0


def test_a_picture_that_is_enlarged_is_seen_until_there_is_a_preview(page: Any, tmp_path: Path) -> None:
    Image.linear_gradient("L").resize((96, 128)).convert("RGB").save(tmp_path / "a.png")
    make(page, "before", steps=LONG)
    page.locator("#tab-enlarge").click()
    page.locator("#source-file").set_input_files(tmp_path / "a.png")
    page.get_by_text("96 × 128 becomes 192 × 256.").wait_for()
    make(page, None, steps=2)
    count(page, QUEUE, 2)
    page.locator("#queue-list .job").last.click()
    until(page, "document.querySelector('#making')?.naturalHeight === 128")
    assert page.locator("#making").get_attribute("alt") == "The picture that it starts from"
    page.get_by_role("button", name=re.compile("^Cancel: before")).click()
    count(page, GALLERY, 1)
    settled(page)
