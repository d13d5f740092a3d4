"""What a reader of the page does in a browser, through Playwright."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .running_server import eventually

GALLERY = "#gallery-list img"
QUEUE = "#queue-list li"


def open_page(page: Any, url: str) -> None:
    """Go there and wait until the sizes of the model are filled in, which is the last thing to happen."""
    page.goto(url)
    loaded(page)


def loaded(page: Any) -> None:
    """Wait until the page is ready."""
    page.wait_for_selector("body[data-ready]")
    until(page, "document.querySelector('#width').value !== '' || document.body.dataset.tab !== 'create'")


def until(page: Any, holds: str, seconds: float = 60.0) -> None:
    """Wait until an expression is true. (Playwright's own waiting evaluates texts, which the page's policy forbids.)"""
    eventually(lambda: page.evaluate(holds), seconds)


def count(page: Any, selector: str, number: int) -> None:
    """Wait until there are that many."""
    until(page, f"document.querySelectorAll('{selector}').length === {number}")


def fill(page: Any, **values: Any) -> None:
    """Write values into fields by name; what lies under More settings is unfolded."""
    for name, value in values.items():
        field = page.locator(f"#{name}")
        if not field.is_visible() and page.locator("#more").evaluate(
            "(more, id) => !!more.querySelector(`#${id}`)", name
        ):
            page.locator("#more > summary").click()
        field.fill(str(value))


def make(page: Any, prompt: str | None = "a fox", **values: Any) -> None:
    """Submit a small, quick picture."""
    tab = page.evaluate("document.body.dataset.tab")
    size = {} if tab == "enlarge" else {"width": 128, "height": 128}
    fill(page, **{"steps": 2, **size, **values})
    if prompt is not None:
        fill(page, prompt=prompt)
    page.locator("#make").click()


def settled(page: Any) -> None:
    """Wait until nothing is queued or being made."""
    count(page, QUEUE, 0)


def shown(page: Any) -> Any:
    """The picture in the middle, loaded."""
    picture = page.locator(".pane > img")
    eventually(lambda: picture.evaluate("one => one.complete && one.naturalWidth > 0"))
    return picture


def saved(page: Any, folder: Path) -> Path:
    """The picture in the middle, downloaded as its reader would."""
    with page.expect_download() as started:
        page.locator("#download").click()
    path = folder / started.value.suggested_filename
    started.value.save_as(path)
    return path
