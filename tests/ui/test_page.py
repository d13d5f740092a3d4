"""The page in a real browser, with a real server and worker behind it."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from PIL import Image

from scalecrafter.generation.picture_files import read_request
from tests.support.browser import field, finished, saved
from tests.support.running_server import Running


def small(page: Any, steps: int = 4, size: str = "128") -> None:
    """Quick settings."""
    for name in ("width", "height"):
        field(page, name).fill(size)
    if not page.locator("#steps").is_visible():
        page.get_by_text("More settings").click()
    page.locator("#steps input[type=number]").fill(str(steps))
    page.locator("#steps input[type=number]").blur()


def test_a_picture_is_made_compared_zoomed_and_restored(
    page: Any, site: Running, tmp_path: Path, requests: list[str]
) -> None:
    small(page, steps=12)
    field(page, "seed").fill("7")
    field(page, "prompt").fill("a fox")
    page.locator("#make").click()

    page.wait_for_function("/step [1-9]/.test(document.querySelector('#stage').innerText)")
    page.wait_for_selector("#stage progress")
    page.wait_for_selector("#stage .sc-preview")
    finished(page, 2)

    pictures = page.locator("#compare [data-testid=imageslider-image]")
    page.wait_for_function(
        "[...document.querySelectorAll('#compare img')].filter(one => one.naturalWidth === 128).length === 2"
    )
    assert len({pictures.nth(0).get_attribute("src"), pictures.nth(1).get_attribute("src")}) == 2

    handle = page.locator("#compare [data-testid=slider]")
    before = handle.get_attribute("style")
    page.locator("#divider input[type=range]").focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    page.wait_for_function(
        "old => document.querySelector('#compare [data-testid=slider]').getAttribute('style') !== old", arg=before
    )

    shown = page.locator(".sc-window img")
    page.wait_for_function("document.querySelector('.sc-scale').textContent !== ''")
    fitted = shown.bounding_box()["width"]
    view = page.locator(".sc-window").bounding_box()
    assert abs(fitted - min(view["width"], view["height"])) < 4
    page.locator(".sc-window").focus()
    page.keyboard.press("+")
    assert shown.bounding_box()["width"] > 1.4 * fitted
    page.keyboard.press("1")
    assert shown.bounding_box()["width"] == 128
    ours = shown.get_attribute("src")
    page.get_by_role("button", name="Show direct inference").click()
    assert shown.get_attribute("src") != ours

    path, direct = saved(page, tmp_path), saved(page, tmp_path, 1)
    assert path.read_bytes() == site.http.get(f"/{ours}").content
    request = read_request(path)
    assert (request.prompt, request.seed, request.width, request.steps) == ("a fox", 7, 128, 12)
    assert read_request(direct) == request.directly()

    page.reload()
    finished(page, 2)  # this browser remembers what it asked for
    page.wait_for_function("document.querySelector('#width textarea, #width input')?.value === '256'")
    drop(page, path)
    page.wait_for_function("document.body.innerText.includes('are back')")
    assert (field(page, "prompt").input_value(), field(page, "seed").input_value()) == ("a fox", "7")
    assert field(page, "width").input_value() == "128"
    if not page.locator("#steps").is_visible():
        page.get_by_text("More settings").click()
    assert page.locator("#steps input[type=number]").input_value() == "12"

    places = {urlsplit(url).netloc for url in requests if url.startswith("http")}
    assert places == {urlsplit(site.url).netloc}


def drop(page: Any, path: Path) -> None:
    """Let a file fall onto the page, as from a folder's window."""
    data = base64.b64encode(path.read_bytes()).decode()
    transfer = page.evaluate_handle(
        """([name, data]) => {
            const bytes = Uint8Array.from(atob(data), letter => letter.charCodeAt(0));
            const transfer = new DataTransfer();
            transfer.items.add(new File([bytes], name, {type: "image/png"}));
            return transfer;
        }""",
        [path.name, data],
    )
    page.locator("#restore button").first.dispatch_event("drop", {"dataTransfer": transfer})


def test_the_keyboard_alone_makes_a_picture_and_cancels_one(page: Any) -> None:
    field(page, "prompt").focus()
    page.keyboard.type("a bear")
    tab_to(page, "#make")
    tab_to(page, "#compare-too input")
    page.keyboard.press("Space")
    tab_to(page, "#width textarea, #width input")
    page.keyboard.press("Control+a")
    page.keyboard.type("128")
    page.keyboard.press("Tab")
    page.keyboard.press("Control+a")
    page.keyboard.type("128")
    tab_to(page, "#make", backwards=True)
    page.keyboard.press("Enter")
    page.wait_for_function("/step [1-9]/.test(document.querySelector('#stage').innerText)")
    tab_to(page, "#cancel")
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelector('#stage').innerText.includes('cancelled')")
    assert page.locator(".sc-download").count() == 0

    small(page, steps=2)
    field(page, "prompt").focus()
    page.keyboard.press("Enter")
    finished(page, 1)
    assert not page.locator("#compare").is_visible()


def tab_to(page: Any, selector: str, backwards: bool = False) -> None:
    """Press Tab until the focus is there."""
    for _ in range(30):
        page.keyboard.press("Shift+Tab" if backwards else "Tab")
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
    raise AssertionError(f"Tab does not lead to {selector}")


def test_wrong_settings_are_told_in_words(page: Any, tmp_path: Path) -> None:
    field(page, "prompt").fill("a fox")
    field(page, "width").fill("100")
    page.locator("#make").click()
    page.wait_for_function(
        "document.querySelector('#stage').innerText.includes('the nearest good ones are 64 and 128')"
    )
    plain = tmp_path / "plain.png"
    Image.new("RGB", (8, 8)).save(plain)
    page.locator("#restore input[type=file]").set_input_files(plain)
    page.wait_for_function("document.body.innerText.includes('holds no ScaleCrafter request')")
    assert field(page, "prompt").input_value() == "a fox"


def test_another_model_brings_its_own_guidance(page: Any) -> None:
    page.get_by_text("More settings").click()
    guidance = page.locator("#guidance input[type=number]")
    assert float(guidance.input_value()) == 7.5
    page.locator("#model input").click()
    page.get_by_role("option", name="critters").click()
    page.wait_for_function("document.querySelector('#guidance input[type=number]').value === '2'")


def test_the_plan_is_drawn_as_it_is_made(page: Any) -> None:
    page.get_by_text("The plan: what happens").click()
    page.locator("#draw").click()
    page.wait_for_selector("#plan svg", timeout=60_000)
    told = page.locator("#plan svg").text_content()
    assert "256×256 pixels in 25 steps" in told
    assert "trained at 128×128" in told
    assert "steps 1–25: 2" in told
    page.set_viewport_size({"width": 360, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_nothing_is_wider_than_a_phone(page: Any) -> None:
    page.set_viewport_size({"width": 360, "height": 800})
    small(page, steps=2)
    field(page, "prompt").fill("a fox")
    page.keyboard.press("Enter")
    finished(page, 2)
    for _ in range(4):
        page.get_by_role("button", name="Zoom in").click()
    assert page.locator(".sc-window img").bounding_box()["width"] > 720
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    wide = page.evaluate(
        """[...document.querySelectorAll('button, input, textarea, img, .sc-window')]
            .filter(one => one.offsetParent && !one.closest('.sc-window')?.contains(one) &&
                           !one.closest('#compare') && one.getBoundingClientRect().right > 361)
            .map(one => one.outerHTML.slice(0, 80))"""
    )
    assert wide == []


def test_what_gradio_could_do_beside_the_page_is_refused(site: Running) -> None:
    for path in ("/gradio_api/file=/etc/hostname", "/gradio_api/file=http://127.0.0.1:1/", "/gradio_api/proxy=x",
                 "/gradio_api/info", "/gradio_api/runs", "/monitoring", "/docs"):  # fmt: skip
        assert httpx.get(site.url + path).status_code == 404, path
    assert site.http.get("/v1/jobs").status_code == 405  # as without the page
    policy = site.http.get("/").headers["content-security-policy"]
    assert "default-src 'self'" in policy
