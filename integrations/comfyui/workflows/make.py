"""Writes the workflows beside it, in the format that ComfyUI's page opens: `python workflows/make.py`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
CHECKPOINT = "sd_xl_base_1.0.safetensors"
POSITIVE = "a blue fox with a red scarf in the snow, golden hour, detailed fur"
SLOTS: dict[str, tuple[list[tuple[str, str]], list[tuple[str, str]]]] = {
    "CheckpointLoaderSimple": ([], [("MODEL", "MODEL"), ("CLIP", "CLIP"), ("VAE", "VAE")]),
    "CLIPTextEncode": ([("clip", "CLIP")], [("CONDITIONING", "CONDITIONING")]),
    "EmptyLatentImage": ([], [("LATENT", "LATENT")]),
    "LoadImage": ([], [("IMAGE", "IMAGE"), ("MASK", "MASK")]),
    "ImageScaleBy": ([("image", "IMAGE")], [("IMAGE", "IMAGE")]),
    "KSampler": (
        [("model", "MODEL"), ("positive", "CONDITIONING"), ("negative", "CONDITIONING"), ("latent_image", "LATENT")],
        [("LATENT", "LATENT")],
    ),
    "SaveImage": ([("images", "IMAGE")], []),
    "PreviewImage": ([("images", "IMAGE")], []),
    "ScaleCrafter": ([("model", "MODEL")], [("MODEL", "MODEL")]),
    "ScaleCrafterNoiseDampedGuidance": ([("model", "MODEL")], [("MODEL", "MODEL")]),
    "ScaleCrafterExactDecode": ([("samples", "LATENT"), ("vae", "VAE")], [("IMAGE", "IMAGE")]),
    "ScaleCrafterExactEncode": ([("pixels", "IMAGE"), ("vae", "VAE")], [("LATENT", "LATENT")]),
    "ScaleCrafterPlan": ([("model", "MODEL")], [("image", "IMAGE"), ("text", "STRING")]),
}
"""By type of node: its sockets, (name, type) of inputs and of outputs."""


class Workflow:
    """A workflow while it is written."""

    def __init__(self) -> None:
        self.nodes: list[dict[str, Any]] = []
        self.links: list[list[Any]] = []

    def add(self, kind: str, column: int, row: int, *widgets: Any, title: str = "", **inputs: tuple[int, int]) -> int:
        """Add a node; its id.

        Args:
            kind: a name of `SLOTS`.
            column: on the canvas, from the left.
            row: likewise, from the top.
            widgets: the values of its widgets.
            title: what stands above it.
            inputs: by socket, the id of a node and the number of its output.
        """
        number = len(self.nodes) + 1
        sockets, outputs = SLOTS[kind]
        node: dict[str, Any] = {
            "id": number, "type": kind, "pos": [40 + 360 * column, 60 + 250 * row], "size": [320, 200], "flags": {},
            "order": number - 1, "mode": 0,
            "inputs": [{"name": name, "type": what, "link": None} for name, what in sockets],
            "outputs": [{"name": name, "type": what, "links": []} for name, what in outputs],
            "properties": {"Node name for S&R": kind}, "widgets_values": list(widgets),
        }  # fmt: skip
        if title:
            node["title"] = title
        self.nodes.append(node)
        for slot, (name, what) in enumerate(sockets):
            source, output = inputs[name]
            link = len(self.links) + 1
            self.links.append([link, source, output, number, slot, what])
            node["inputs"][slot]["link"] = link
            self.nodes[source - 1]["outputs"][output]["links"].append(link)
        return number

    def json(self) -> str:
        """As ComfyUI's page reads it."""
        content = {
            "last_node_id": len(self.nodes), "last_link_id": len(self.links), "nodes": self.nodes, "links": self.links,
            "groups": [], "config": {}, "extra": {}, "version": 0.4,
        }  # fmt: skip
        return json.dumps(content, indent=1) + "\n"


def _sampler(denoise: float = 1.0) -> tuple[Any, ...]:
    return (7, "fixed", 30, 7.0, "euler", "normal", denoise)


def _model_and_prompts(flow: Workflow) -> tuple[int, int, int]:
    checkpoint = flow.add("CheckpointLoaderSimple", 0, 0, CHECKPOINT)
    positive = flow.add("CLIPTextEncode", 1, 1, POSITIVE, clip=(checkpoint, 1))
    negative = flow.add("CLIPTextEncode", 1, 2, "", title="Negative prompt", clip=(checkpoint, 1))
    return checkpoint, positive, negative


def text_to_image() -> Workflow:
    """A picture of four times the native pixels, in one pass."""
    flow = Workflow()
    checkpoint, positive, negative = _model_and_prompts(flow)
    crafted = flow.add("ScaleCrafter", 1, 0, "automatic", "", 0, model=(checkpoint, 0))
    damped = flow.add("ScaleCrafterNoiseDampedGuidance", 2, 0, model=(crafted, 0))
    empty = flow.add("EmptyLatentImage", 2, 2, 2048, 2048, 1)
    sampled = flow.add(
        "KSampler", 3, 0, *_sampler(),
        model=(damped, 0), positive=(positive, 0), negative=(negative, 0), latent_image=(empty, 0),
    )  # fmt: skip
    picture = flow.add("ScaleCrafterExactDecode", 4, 0, "auto", samples=(sampled, 0), vae=(checkpoint, 2))
    flow.add("SaveImage", 5, 0, "scalecrafter", images=(picture, 0))
    return flow


def enlarge() -> Workflow:
    """A picture of one's own at twice the side, with new detail."""
    flow = Workflow()
    checkpoint, positive, negative = _model_and_prompts(flow)
    crafted = flow.add("ScaleCrafter", 1, 0, "automatic", "", 0, model=(checkpoint, 0))
    own = flow.add("LoadImage", 0, 3, "example.png", "image")
    large = flow.add("ImageScaleBy", 1, 3, "lanczos", 2.0, image=(own, 0))
    start = flow.add("ScaleCrafterExactEncode", 2, 3, "auto", pixels=(large, 0), vae=(checkpoint, 2))
    sampled = flow.add(
        "KSampler", 3, 0, *_sampler(0.5),
        model=(crafted, 0), positive=(positive, 0), negative=(negative, 0), latent_image=(start, 0),
    )  # fmt: skip
    picture = flow.add("ScaleCrafterExactDecode", 4, 0, "auto", samples=(sampled, 0), vae=(checkpoint, 2))
    flow.add("SaveImage", 5, 0, "enlarged", images=(picture, 0))
    return flow


def compare() -> Workflow:
    """The same seed without and with ScaleCrafter, and the plan."""
    flow = Workflow()
    checkpoint, positive, negative = _model_and_prompts(flow)
    crafted = flow.add("ScaleCrafter", 1, 0, "automatic", "", 0, model=(checkpoint, 0))
    plan = flow.add("ScaleCrafterPlan", 2, 0, 2048, 2048, 30, model=(crafted, 0))
    flow.add("PreviewImage", 3, 0, images=(plan, 0), title="What happens to which layer")
    empty = flow.add("EmptyLatentImage", 2, 2, 2048, 2048, 1)
    for row, (source, title) in enumerate(((checkpoint, "without"), (crafted, "with ScaleCrafter")), 1):
        sampled = flow.add(
            "KSampler", 3, row, *_sampler(), title=title,
            model=(source, 0), positive=(positive, 0), negative=(negative, 0), latent_image=(empty, 0),
        )  # fmt: skip
        picture = flow.add("ScaleCrafterExactDecode", 4, row, "auto", samples=(sampled, 0), vae=(checkpoint, 2))
        flow.add("SaveImage", 5, row, title.replace(" ", "-"), images=(picture, 0), title=title)
    return flow


WORKFLOWS = {"text-to-image": text_to_image, "enlarge": enlarge, "compare": compare}

if __name__ == "__main__":
    for name, make in WORKFLOWS.items():
        (FOLDER / f"{name}.json").write_text(make().json(), "utf-8")
