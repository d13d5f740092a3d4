"""The pictures of README.md and docs/, all made anew: `python -m benchmarks.docs_pictures [NAME ...]`.

Needs what the extra `dev` installs, and Chromium for the screenshots.  On two CPU cores it takes
about five minutes.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from .pictures import sheet

FOLDER = Path(__file__).parents[1] / "docs" / "pictures"
EXAMPLES = (("a portrait of a furry brown bear in the forest", 3), ("a brown dog on the beach", 2))
"""Prompts and seeds of the picture that the README begins with."""
DETAIL = (128, 64, 352, 288)
"""What of the first example is shown at its own pixels, below it."""
_OWN, _DISPERSED = "#3f51b5", "#ff9800"


def readme() -> None:
    """Direct inference, enlarging, ScaleCrafter and the cascade beside one another, and a part of them."""
    import scalecrafter

    pipe = scalecrafter.load_pipeline("critters")
    methods = ("direct", "upscale", "scalecrafter", "cascade")
    requests = [
        [scalecrafter.Request(prompt=prompt, seed=seed, method=method) for method in methods]
        for prompt, seed in EXAMPLES
    ]
    rows = [[scalecrafter.generate(pipe, request).image for request in row] for row in requests]
    rows.insert(1, [image.crop(DETAIL) for image in rows[0]])
    titles = ["direct inference", "native, enlarged", "ScaleCrafter", "cascade"]
    sheet(rows, titles, 280).quantize(256).save(FOLDER / "readme.png", optimize=True)


def demo() -> None:
    """What `make demo` draws."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "demo.png")
        _scalecrafter("compare", "a portrait of an orange fox in the forest", "--seed", "3", "-o", str(path))
        with Image.open(path) as image:
            image.quantize(256).save(FOLDER / "demo.png", optimize=True)


def taps() -> None:
    """Where the taps of a kernel lie: as trained, with factor 2, dispersed, and dispersed with factor 2."""
    kinds = (("3×3", 3, 1), ("3×3, factor 2", 3, 2), ("dispersed", 5, 1), ("dispersed, factor 2", 5, 2))
    cell, side, gap = 18, 9, 30
    parts = []
    for number, (title, kernel, factor) in enumerate(kinds):
        left = number * (side * cell + gap)
        touched = {side // 2 + factor * (tap - kernel // 2) for tap in range(kernel)}
        for row in range(side):
            for column in range(side):
                fill = (_OWN if kernel == 3 else _DISPERSED) if row in touched and column in touched else "#eceff1"
                where = f'x="{left + column * cell}" y="{24 + row * cell}"'
                parts.append(f'<rect {where} width="{cell - 2}" height="{cell - 2}" rx="2" fill="{fill}"/>')
        style = 'font-family="sans-serif" font-size="14" fill="#607d8b"'
        parts.append(f'<text x="{left}" y="14" {style}>{title}</text>')
    width, height = len(kinds) * (side * cell + gap) - gap, 24 + side * cell
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
    (FOLDER / "taps.svg").write_text("\n".join([head, *parts, "</svg>", ""]))


def dispersion() -> None:
    """The matrix R as a heat map."""
    _scalecrafter("disperse", "--plot", str(FOLDER / "dispersion.png"))


def plans() -> None:
    """The plan of SD 1.5 with everything on, and the automatic one of critters."""
    import torch
    from diffusers import UNet2DConditionModel

    import scalecrafter
    from scalecrafter.recipes.plan_picture import plan_picture

    with torch.device("meta"):
        unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768)
    full = scalecrafter.plan(unet, 2048, 2048, num_inference_steps=50, recipe="sd15-2048x2048-disperse")
    own = scalecrafter.plan(scalecrafter.load_pipeline("critters"), 512, 512, num_inference_steps=25)
    for name, plan in (("plan-sd15.svg", full), ("plan-critters.svg", own)):
        (FOLDER / name).write_text(plan_picture(plan) + "\n")


def page() -> None:
    """The page after a comparison, and on a phone."""
    from playwright.sync_api import sync_playwright

    with _running() as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        tab = context.new_page()
        tab.set_default_timeout(300_000)
        tab.goto(address)
        tab.locator("#width").filter(visible=True).wait_for()
        for prompt, seed in reversed(EXAMPLES):
            tab.locator("#compare").set_checked((prompt, seed) == EXAMPLES[0])
            tab.locator("#prompt").fill(prompt)
            tab.locator("#seed").fill(str(seed))
            tab.locator("#make").click()
        tab.locator("#gallery-list li").nth(2).wait_for()
        tab.locator(".line").wait_for()
        tab.locator("#prompt").fill("a red owl on a branch at night")
        tab.locator("#make").click()
        tab.wait_for_timeout(8_000)
        tab.locator("#gallery-list button").nth(1).click()
        tab.locator("#compare-with").select_option("plain")
        tab.wait_for_timeout(1_000)
        tab.screenshot(path=FOLDER / "page.png")
        tab.set_viewport_size({"width": 390, "height": 780})
        tab.locator("#views button[data-view=picture]").click()
        tab.wait_for_timeout(1_000)
        tab.screenshot(path=FOLDER / "page-phone.png")
        browser.close()


@contextmanager
def _running() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "scalecrafter", "ui", "--port", "0", "--data", folder]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                    yield found[0]
                    break
        finally:
            process.terminate()
            process.wait(60)


def _scalecrafter(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "scalecrafter", *arguments], check=True)


PICTURES: dict[str, Callable[[], None]] = {
    "readme": readme,
    "demo": demo,
    "taps": taps,
    "dispersion": dispersion,
    "plans": plans,
    "page": page,
}
CHROMIUM = "/usr/bin/chromium"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(PICTURES), help=f"of {', '.join(PICTURES)}; all by default")
    for name in parser.parse_args().names:
        PICTURES[name]()


if __name__ == "__main__":
    main()
