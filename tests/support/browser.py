"""What a reader of the page does in a browser, through Playwright."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def open_page(page: Any, url: str) -> None:
    """Go there and wait until the sizes of the model are filled in, which is the last thing to happen."""
    page.goto(url)
    page.wait_for_function("document.querySelector('#width textarea, #width input')?.value === '256'")


def field(page: Any, name: str) -> Any:
    """A text field."""
    return page.locator(f"#{name} textarea, #{name} input").first


def finished(page: Any, pictures: int) -> None:
    """Wait until that many pictures can be downloaded."""
    page.wait_for_function(f"document.querySelectorAll('.sc-download').length === {pictures}")


def saved(page: Any, folder: Path, which: int = 0) -> Path:
    """A picture, downloaded as its reader would."""
    with page.expect_download() as started:
        page.locator(".sc-download").nth(which).click()
    path = folder / started.value.suggested_filename
    started.value.save_as(path)
    return path
