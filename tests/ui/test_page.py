"""The page in a real browser, with a real server and worker behind it."""

from __future__ import annotations

import base64
import itertools
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from PIL import Image

from scalecrafter.generation.picture_files import read_request
from tests.support.browser import GALLERY, QUEUE, count, fill, loaded, make, open_page, saved, settled, shown, until
from tests.support.running_server import Running, eventually

LONG = 140
"""Steps of a picture that is under way for some seconds on the quickest machine: the page looks twice a second."""


def test_a_picture_is_made_compared_zoomed_saved_and_restored(
    page: Any, site: Running, tmp_path: Path, requests: list[str]
) -> None:
    page.locator("#compare").check()
    make(page, steps=LONG, seed=7)
    until(page, "/Step [1-9]/.test(document.querySelector('#making-text')?.textContent)")
    until(page, "document.querySelector('#making')?.naturalWidth > 0")
    count(page, GALLERY, 2)
    settled(page)
    until(page, "document.querySelector('#compare-with')?.value === 'plain'")  # the two are side by side by themselves
    assert page.locator(".pane .side").all_inner_texts() == ["Direct", "ScaleCrafter"]
    line = page.locator(".line").bounding_box()
    page.locator("#divider").focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    assert page.locator(".line").bounding_box()["x"] > line["x"]

    fitted = shown(page).bounding_box()["width"]
    view = page.locator(".pane").bounding_box()
    assert abs(fitted - min(view["width"], view["height"])) < 4
    page.locator(".pane").focus()
    page.keyboard.press("1")
    assert shown(page).bounding_box()["width"] == 128
    page.keyboard.press("+")
    assert shown(page).bounding_box()["width"] == 192
    page.select_option("#compare-with", "")
    assert not page.locator(".line").is_visible()

    path = saved(page, tmp_path)
    request = read_request(path)
    assert path.name == "a-fox-7.png"
    assert (request.prompt, request.seed, request.width, request.steps) == ("a fox", 7, 128, LONG)
    page.locator(GALLERY).first.click()
    assert read_request(saved(page, tmp_path)) == request.directly()
    for ending, kind in (("jpg", "JPEG"), ("webp", "WEBP")):
        page.locator("#stage-bar select").last.select_option(ending)
        with Image.open(saved(page, tmp_path)) as image:
            assert (image.format, image.size) == (kind, (128, 128))

    fill(page, prompt="a cat", seed=9, steps=3)
    page.reload()
    loaded(page)
    assert page.locator("#prompt").input_value() == "a cat"  # kept over a reload, as the gallery is
    count(page, GALLERY, 2)
    page.locator(GALLERY).last.click()
    page.locator("#stage-bar button[aria-label='Use settings']").click()
    assert values(page) == ["a fox", "7", str(LONG), "128"]
    fill(page, prompt="a cat")
    drop(page, path)
    page.get_by_text("The settings of a-fox-7.png are back").wait_for()
    assert values(page) == ["a fox", "7", str(LONG), "128"]
    assert {urlsplit(url).netloc for url in requests if url.startswith("http")} == {urlsplit(site.url).netloc}


def values(page: Any) -> list[str]:
    return [page.locator(f"#{name}").input_value() for name in ("prompt", "seed", "steps", "width")]


def drop(page: Any, path: Path) -> None:
    """Let a file fall onto the page, as from a folder's window."""
    page.evaluate(
        """([name, data]) => {
            const bytes = Uint8Array.from(atob(data), letter => letter.charCodeAt(0));
            const dataTransfer = new DataTransfer();
            dataTransfer.items.add(new File([bytes], name, {type: "image/png"}));
            document.body.dispatchEvent(new DragEvent("drop", {dataTransfer, bubbles: true}));
        }""",
        [path.name, base64.b64encode(path.read_bytes()).decode()],
    )


def test_three_jobs_wait_the_second_is_cancelled_and_a_reload_mixes_nothing(page: Any) -> None:
    make(page, "first", steps=1)
    count(page, GALLERY, 1)
    settled(page)
    make(page, "one", steps=LONG, n=2)
    make(page, "two", n=1)
    make(page, "three")
    count(page, QUEUE, 3)
    places = page.locator("#queue-list .state").all_inner_texts()
    assert re.fullmatch("[123] pictures? before it", places[2])
    page.get_by_role("button", name="Cancel: two").click()
    count(page, QUEUE, 2)
    page.reload()
    loaded(page)
    assert page.locator("#queue-list .name").all_inner_texts() == ["one", "three"]
    until(page, "/about .* left/.test(document.querySelector('#queue-list .state').textContent)")
    page.locator("#stage-foot").get_by_role("button", name="Cancel this one").click()
    until(page, "document.querySelector('#gallery img[alt^=three]') !== null")
    settled(page)
    names = [one.get_attribute("alt").partition(",")[0] for one in page.locator(GALLERY).all()]
    assert names[0] == "three"
    assert names[-1] == "first"
    assert names.count("one") <= 1  # cancelled at its first picture of two, or just after it
    assert "two" not in names
    page.locator(GALLERY).last.click()  # what was there before is one step away
    assert shown(page).get_attribute("alt") == "first"


def test_the_keyboard_alone_makes_a_picture_and_cancels_one(page: Any) -> None:
    page.locator("#prompt").focus()
    page.keyboard.type("a bear")
    fill(page, steps=LONG)
    page.locator("#prompt").focus()
    for name in ("width", "height"):
        tab_to(page, f"#{name}")
        page.keyboard.press("Control+a")
        page.keyboard.type("128")
    page.keyboard.press("Enter")
    until(page, "/Step [1-9]/.test(document.querySelector('#making-text')?.textContent)")
    tab_to(page, "#queue-list .cancel")
    page.keyboard.press("Enter")
    settled(page)
    assert page.locator(GALLERY).count() == 0
    until(page, "document.querySelector('#announcer').textContent === 'Cancelled'")

    fill(page, steps=1)
    for _ in range(2):
        page.locator("#prompt").focus()
        page.keyboard.press("Enter")
    count(page, GALLERY, 2)
    settled(page)
    tab_to(page, "#gallery-list button")
    page.keyboard.press("End")
    until(page, "document.querySelectorAll('#gallery-list li')[1].firstChild.getAttribute('aria-current') === 'true'")
    page.keyboard.press("Delete")
    count(page, GALLERY, 1)
    page.locator("#tab-create").focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("[document.body.dataset.tab, document.activeElement.id]") == ["edit", "tab-edit"]


def tab_to(page: Any, selector: str) -> None:
    """Press Tab until the focus is there."""
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
    raise AssertionError(f"Tab does not lead to {selector}")


def test_wrong_settings_are_told_in_words_at_their_field(page: Any, tmp_path: Path) -> None:
    def problem() -> str:
        until(page, "document.querySelector('#problem').textContent !== ''")
        return page.locator("#problem").inner_text()

    page.locator("#make").click()
    assert problem() == "Write what the picture should show."
    assert page.evaluate("document.activeElement.id") == "prompt"
    make(page, width=100)
    until(page, "document.querySelector('#problem').textContent.includes('the nearest good ones are 64 and 128')")
    make(page, width=128, seed="many")
    until(page, "document.querySelector('#problem').textContent === 'The seed must be a whole number.'")
    assert page.locator("#seed").get_attribute("aria-invalid") == "true"
    fill(page, seed="")
    page.locator("#tab-edit").click()
    page.locator("#make").click()
    fill(page, prompt="a fox")
    page.locator("#make").click()
    until(page, "document.querySelector('#problem').textContent === 'Choose the picture to edit first.'")

    page.locator("#tab-create").click()
    for name, content, message in (
        ("plain.png", None, "holds no settings"),
        ("text.png", b"not a picture", "not a PNG picture"),
    ):
        path = tmp_path / name
        if content is None:
            Image.new("RGB", (8, 8)).save(path)
        else:
            path.write_bytes(content)
        page.locator("#restore-file").set_input_files(path)
        page.get_by_text(message).wait_for()


def test_a_method_shows_its_own_settings_and_they_reach_the_picture(page: Any, tmp_path: Path) -> None:
    page.locator("#more > summary").click()
    page.select_option("#method", "cascade")
    page.locator("#setting-restart").fill("0.7, 0.4")
    page.locator("#setting-restart").blur()
    page.select_option("#setting-upsample", "latents")
    page.reload()
    loaded(page)
    assert page.locator("#setting-restart").input_value() == "0.7, 0.4"
    page.locator("#more > summary").click()
    make(page, steps=4, width=192, height=192)
    count(page, GALLERY, 1)
    settled(page)
    settings = read_request(saved(page, tmp_path)).model_dump()["cascade"]
    assert (settings["restart"], settings["upsample"]) == ((0.7, 0.4), "latents")
    assert page.locator("#guidance").get_attribute("placeholder") == "7.5"
    page.select_option("#model", "critters")
    assert page.locator("#guidance").get_attribute("placeholder") == "2"


def test_a_painted_part_is_drawn_again_and_the_rest_stays(page: Any, tmp_path: Path) -> None:
    source, mask = tmp_path / "source.png", tmp_path / "mask.png"
    Image.linear_gradient("L").resize((128, 128)).convert("RGB").save(source)
    half = Image.new("L", (128, 128))
    half.paste(255, (0, 0, 64, 128))
    half.save(mask)
    page.locator("#tab-edit").click()
    page.locator("#source-file").set_input_files(source)
    page.get_by_label("A part that I paint").check()
    box = page.locator("canvas.mask").bounding_box()
    make(page)
    until(page, "document.querySelector('#problem').textContent.startsWith('Paint the part')")

    def stroke(x: float) -> None:
        page.mouse.move(box["x"] + x * box["width"], box["y"] + 0.2 * box["height"])
        page.mouse.down()
        page.mouse.move(box["x"] + x * box["width"], box["y"] + 0.8 * box["height"], steps=3)
        page.mouse.up()

    stroke(0.25)
    stroke(0.75)
    page.get_by_role("button", name="Undo").click()
    make(page)
    count(page, GALLERY, 1)
    settled(page)
    before = np.asarray(Image.open(source))
    after = np.asarray(Image.open(saved(page, tmp_path)))
    np.testing.assert_array_equal(after[:, 64:], before[:, 64:])  # the stroke there was taken back
    assert (after[40:90, 28:36] != before[40:90, 28:36]).any()

    page.locator("#paint-open").click()  # without a mouse or pen: a mask from a file
    page.locator("#mask-file").set_input_files(mask)
    page.locator("#make").click()
    count(page, GALLERY, 2)
    settled(page)
    again = np.asarray(Image.open(saved(page, tmp_path)))
    np.testing.assert_array_equal(again[:, 66:], before[:, 66:])
    assert (again[:, :60] != before[:, :60]).mean() > 0.5

    page.locator("#source-remove").click()
    page.get_by_label("The whole picture").check()
    page.locator("#stage-bar button[aria-label='Use settings']").click()
    until(page, "document.querySelector('#source-picture').naturalWidth === 128")
    assert page.get_by_label("A part that I paint").is_checked()


def test_a_picture_of_the_gallery_is_enlarged_compared_and_deleted(page: Any, site: Running, tmp_path: Path) -> None:
    make(page, seed=3)
    count(page, GALLERY, 1)
    settled(page)
    first = shown(page).get_attribute("src")
    page.locator("#stage-bar button[aria-label='Enlarge']").click()
    page.get_by_text("128 × 128 becomes 256 × 256.").wait_for()
    make(page, None)
    count(page, GALLERY, 2)
    settled(page)
    with Image.open(saved(page, tmp_path)) as image:
        assert image.size == (256, 256)
    page.select_option("#compare-with", "source")
    until(page, "document.querySelector('.clip img').naturalWidth === 128")
    page.select_option("#compare-with", "picked")
    page.locator(GALLERY).last.click()
    until(page, "document.querySelector('.side.left').textContent === 'ScaleCrafter'")

    page.locator(GALLERY).last.click()
    for answer in ("Undo", "Close this notice"):
        page.locator("#stage-bar button[aria-label='Delete']").click()
        count(page, GALLERY, 1)
        page.get_by_role("button", name=answer).click()
        if answer == "Undo":
            count(page, GALLERY, 2)

    def gone() -> bool:
        try:
            return bool(site.http.get(f"/{first}").status_code == 404)
        except httpx.RemoteProtocolError:  # deleted while it was sent
            return False

    eventually(gone)
    page.reload()
    loaded(page)
    count(page, GALLERY, 1)


def test_another_browser_sees_none_of_the_pictures(page: Any, chromium: Any, site: Running) -> None:
    make(page, steps=1, n=2)
    count(page, GALLERY, 2)
    other = chromium.new_context().new_page()
    open_page(other, site.url)
    assert other.locator(GALLERY).count() == 0
    other.context.close()


def test_the_plan_is_drawn_as_it_is_made(page: Any) -> None:
    page.locator("#more > summary").click()
    page.locator("#plan-open").click()
    page.wait_for_selector("#plan-body svg", timeout=300_000)
    told = page.locator("#plan-body svg").text_content()
    assert "256×256 pixels in 25 steps" in told
    assert "trained at 128×128" in told
    assert "steps 1–13: 2" in told
    for width in (360, 1280):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.locator("#plan-body").bounding_box()["width"] < width


def test_presets_can_be_made_and_stay_within_the_limit(page: Any) -> None:
    found = page.evaluate(
        """async () => {
            const { SHAPES, ENLARGEMENTS, presetSize } = await import("/page/sizes.js");
            const all = [];
            for (const [native, multiple] of [[256, 64], [512, 64], [1024, 32]])
                for (const shape in SHAPES) for (const enlargement in ENLARGEMENTS) {
                    const facts = { size_multiple: multiple, width: 2 * native, height: 2 * native };
                    all.push([native, multiple, SHAPES[shape], ENLARGEMENTS[enlargement],
                              presetSize(facts, shape, enlargement, 4096 * 4096)]);
                }
            return all;
        }"""
    )
    assert len(found) == 75
    for native, multiple, (wide, high), times, (width, height) in found:
        assert width % multiple == height % multiple == 0
        assert width * height <= 4096 * 4096
        assert width / height == pytest.approx(wide / high, rel=0.2)
        if (wide, high, times) == (1, 1, 2):
            assert (width, height) == (2 * native, 2 * native)


def test_a_phone_shows_what_happens_and_nothing_is_wider_than_a_screen(page: Any) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    make(page, steps=LONG)
    until(page, "document.body.dataset.view === 'picture'")
    page.wait_for_selector("#making-bar")
    page.wait_for_selector("#views-progress:visible")
    count(page, GALLERY, 1)
    settled(page)
    for (width, height), view in itertools.product(
        [(360, 740), (390, 844), (768, 1024), (1280, 900), (1920, 1080)], ["settings", "picture", "gallery"]
    ):
        page.set_viewport_size({"width": width, "height": height})
        page.evaluate("name => document.querySelector(`#views button[data-view=${name}]`).click()", view)
        assert page.evaluate("[document.documentElement.scrollWidth, document.documentElement.scrollHeight]") == [
            width, height,
        ]  # fmt: skip
        wide = page.evaluate(
            """[...document.querySelectorAll('button, input, select, textarea, a, li, p')]
                .filter(one => one.offsetParent && !one.matches('.hidden, .skip') &&
                               (one.getBoundingClientRect().right > innerWidth + 1 || one.scrollWidth > innerWidth))
                .map(one => one.outerHTML.slice(0, 80))"""
        )
        assert wide == [], (width, view)


def test_axe_finds_nothing_serious(page: Any, tmp_path: Path) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    source = tmp_path / "source.png"
    Image.new("RGB", (64, 64), "red").save(source)

    def check(where: str) -> None:
        found = axe.run(page).response["violations"]
        assert [(one["id"], [node["html"][:80] for node in one["nodes"]]) for one in found] == [], where

    make(page, n=2)
    count(page, GALLERY, 2)
    settled(page)
    page.select_option("#compare-with", "picked")
    check("create, choosing a picture to compare with")
    page.locator("#tab-edit").click()
    page.locator("#source-file").set_input_files(source)
    page.get_by_label("A part that I paint").check()
    page.wait_for_selector("canvas.mask")
    check("edit")
    page.emulate_media(color_scheme="dark")
    page.locator("#tab-enlarge").click()
    make(page, "x")
    until(page, "document.querySelector('#problem').textContent !== ''")
    check("enlarge, dark, with an error")
    page.set_viewport_size({"width": 390, "height": 844})
    page.locator("#help-open").click()
    check("help on a phone")
