"""The pictures of the ComfyUI node pack's README, drawn by its workflows in a real ComfyUI with critters' weights.

    COMFYUI=path/to/ComfyUI python -m benchmarks.comfyui_pictures

Each picture of a workflow carries the workflow, so it can be dropped on ComfyUI's page. Some minutes on one CPU core.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.support.comfy_checkout import PACK, Queue, api_prompt, import_comfy, our_critters

PROMPT, SIDE, NATIVE, STEPS, CFG = "a blue fox with a red scarf in the snow", 512, 256, 25, 2.0


def changes(seed: int, **sampler: Any) -> dict[str, dict[str, Any]]:
    """What critters needs to be other than in the workflows, which are for SDXL."""
    return {
        "EmptyLatentImage": {"width": SIDE, "height": SIDE},
        "KSampler": {"steps": STEPS, "cfg": CFG, "seed": seed, **sampler},
        "ScaleCrafter": {"native_side": NATIVE},
        "ScaleCrafterPlan": {"width": SIDE, "height": SIDE, "steps": STEPS},
    }


def prompt_of(name: str, seed: int, **sampler: Any) -> tuple[str, dict[str, Any]]:
    """A workflow's text, and the same for ComfyUI's server."""
    text = (PACK / "workflows" / f"{name}.json").read_text("utf-8")
    prompt = api_prompt(json.loads(text), changes(seed, **sampler))
    positive = next(node for node in prompt.values() if node["class_type"] == "CLIPTextEncode")
    positive["inputs"]["text"] = PROMPT
    return text, prompt


def keep(name: str, text: str, *pictures: np.ndarray) -> None:
    """Write pictures side by side, with the workflow inside."""
    information = PngInfo()
    information.add_text("workflow", json.dumps(json.loads(text)))
    sheet = np.concatenate(pictures, 1).astype(np.uint8)
    Image.fromarray(sheet).save(PACK / "workflows" / f"{name}.png", pnginfo=information, optimize=True)


def main() -> None:
    """Draw all of them."""
    import_comfy()
    pipe = our_critters()
    queue = Queue(pipe)
    text, prompt = prompt_of("compare", 7)
    *_, without, crafted = sorted(queue.run(prompt), key=lambda picture: picture.shape[:2] == (SIDE, SIDE))
    keep("compare", text, without, crafted)
    plan = next(picture for picture in queue.pictures if picture.shape[:2] != (SIDE, SIDE))
    Image.fromarray(plan.astype(np.uint8)).save(PACK / "workflows" / "plan.png", optimize=True)
    text, prompt = prompt_of("text-to-image", 11)
    (picture,) = queue.run(prompt)
    keep("text-to-image", text, picture)
    small = Image.fromarray(picture.astype(np.uint8)).resize((NATIVE, NATIVE), Image.Resampling.LANCZOS)
    own = torch.from_numpy(np.asarray(small, np.float32) / 255)[None]
    queue = Queue(pipe, own)
    text, prompt = prompt_of("enlarge", 3)
    (large,) = queue.run(prompt)
    before = np.asarray(small.resize((SIDE, SIDE), Image.Resampling.NEAREST))
    keep("enlarge", text, before, large)


if __name__ == "__main__":
    main()
