"""One server with the page, and a real browser: Chromium of the distribution, driven by Playwright."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.browser import open_page
from tests.support.running_server import Running
from tests.support.tiny_models import tiny_sd_pipeline
from tests.support.whole_transformers import whole_flux

KEY = "a-key-that-is-long-enough"
_OPTIONS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The page of the tiny model; at its smallest size a step takes about 0.1 s.  A tiny FLUX.1 and critters, too."""
    folder = tmp_path_factory.mktemp("page")
    tiny_sd_pipeline().save_pretrained(folder / "tiny")
    whole_flux().save_pretrained(folder / "flux")
    models = ("--model", str(folder / "tiny"), "--model", str(folder / "flux"), "--model", "critters")
    running = Running(folder / "data", "--page", *models, "--grace", "0")
    yield running.when_ready()
    assert running.stop() == 0, running.log.read_text()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A browser; for each test it opens windows of its own.

    While it is open, Playwright keeps an event loop running in this thread, in which `asyncio.run` is impossible: so it
    is closed with the module, and no test of another one meets it.
    """
    playwright = pytest.importorskip("playwright.sync_api", reason="the page's tests need playwright")
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("the page's tests need Chromium: apt-get install chromium")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=path, args=list(_OPTIONS))
        yield browser
        browser.close()


@pytest.fixture
def requests() -> list[str]:
    """Every address that the page's windows ask for."""
    return []


@pytest.fixture
def page(site: Running, chromium: Any, requests: list[str]) -> Iterator[Any]:
    """The page, open and ready, in a fresh browser profile."""
    site.idle()
    context = chromium.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    page = context.new_page()
    page.set_default_timeout(30_000)
    page.on("request", lambda request: requests.append(request.url))
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    open_page(page, site.url)
    yield page
    context.close()
    assert faults == []
