"""ComfyUI from a checkout, in this process and on the CPU; and critters, built of its own modules.

The checkout is named by the environment variable COMFYUI. What it needs besides (einops, spandrel, torchvision) must be
installed; of torchvision its Python half is enough.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scalecrafter.models.embedded import embedded_folder
from scalecrafter.models.loading import load_pipeline

from .ldm_checkpoint import unet_state, vae_state

PACK = Path(__file__).parents[2] / "integrations" / "comfyui"
_GROUPS, _VAE_GROUPS = 16, 8
"""Of critters' normalisation; ComfyUI builds all U-Nets with 32."""


class _Multiple(int):
    """A factor that is no whole number, whose products are."""

    def __new__(cls, factor: float) -> _Multiple:
        made = super().__new__(cls, int(factor))
        made.factor = factor
        return made

    def __mul__(self, other: int) -> int:
        return int(self.factor * other)

    __rmul__ = __mul__
    factor: float


def checkout() -> Path | None:
    """Where ComfyUI is; None without one."""
    folder = os.environ.get("COMFYUI")
    return Path(folder) if folder else None


def import_comfy() -> None:
    """Make `comfy`, `nodes` and `execution` of the checkout importable."""
    folder = checkout()
    assert folder is not None
    if str(folder) in sys.path:
        return
    _do_without_compiled_torchvision()
    sys.path.append(str(folder))
    import comfy.cli_args

    comfy.cli_args.args.cpu = True


def _do_without_compiled_torchvision() -> None:
    """Let torchvision be imported where its compiled half is for another build of torch."""
    try:
        import torchvision  # noqa: F401
    except RuntimeError:  # it misses operators of its own
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        for name in ("nms", "qnms"):
            torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


def node_pack(path: Path = PACK) -> Any:
    """The node pack, imported as ComfyUI imports a folder of `custom_nodes`."""
    name = "scalecrafter_for_comfyui"
    if checkout() is not None:
        import_comfy()
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            name, path / "__init__.py", submodule_search_locations=[str(path)]
        )
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def our_critters() -> Any:
    """The diffusers pipeline of critters."""
    return load_pipeline(str(embedded_folder("critters")))


def comfy_model(pipe: Any) -> Any:
    """A ComfyUI MODEL (`ModelPatcher`) with the weights of critters' U-Net."""
    import comfy.model_base
    import comfy.model_patcher
    from comfy import supported_models

    configuration = supported_models.SD15(
        {
            "image_size": 32, "in_channels": pipe.unet.config.in_channels,
            "out_channels": pipe.unet.config.out_channels, "model_channels": 64, "num_res_blocks": [1] * 4,
            "channel_mult": (1, 2, 3, _Multiple(3.5)), "transformer_depth": [0, 1, 1, 0], "transformer_depth_middle": 1,
            "transformer_depth_output": [0, 0, 1, 1, 1, 1, 0, 0], "context_dim": 128, "use_spatial_transformer": True,
            "legacy": False, "adm_in_channels": None, "use_linear_in_transformer": False, "dtype": torch.float32,
            "use_temporal_attention": False,
        }
    )  # fmt: skip
    configuration.unet_config["num_heads"] = 4
    configuration.latent_format.scale_factor = pipe.vae.config.scaling_factor
    configuration.latent_format.latent_channels = pipe.vae.config.latent_channels  # of which empty latents are made
    model = comfy.model_base.BaseModel(configuration, comfy.model_base.ModelType.V_PREDICTION)
    _set_groups(model.diffusion_model, _GROUPS)
    model.diffusion_model.load_state_dict(unet_state(pipe.unet))
    model.eval().requires_grad_(False)
    cpu = torch.device("cpu")
    return comfy.model_patcher.ModelPatcher(model, load_device=cpu, offload_device=cpu)


def comfy_vae(pipe: Any) -> Any:
    """A ComfyUI VAE with the weights of critters'."""
    import comfy.sd

    sizes = {"ch": 32, "ch_mult": [1, 2, 3, 4], "num_res_blocks": 1, "attn_resolutions": [], "dropout": 0.0}
    channels = pipe.vae.config.latent_channels
    shape = {"double_z": True, "z_channels": channels, "resolution": 256, "in_channels": 3, "out_ch": 3}
    vae = comfy.sd.VAE(vae_state(pipe.vae), config={"params": {"ddconfig": sizes | shape, "embed_dim": channels}})
    _set_groups(vae.first_stage_model, _VAE_GROUPS)
    return vae


def conditioning(pipe: Any, prompt: str) -> Any:
    """A ComfyUI CONDITIONING of a prompt, by critters' own text encoder."""
    embedded, _ = pipe.encode_prompt(prompt, "cpu", 1, False)
    return [[embedded.detach(), {}]]


def _set_groups(module: torch.nn.Module, groups: int) -> None:
    for part in module.modules():
        if isinstance(part, torch.nn.GroupNorm):
            part.num_groups = groups


_STAND_INS = {
    "CheckpointLoaderSimple": "TestCheckpoint",
    "LoadImage": "TestPicture",
    "SaveImage": "TestKeep",
    "PreviewImage": "TestKeep",
}
"""What a `Queue` has in the place of nodes that read and write files."""


class _Clip:
    """What CLIPTextEncode needs of a CLIP: critters' own text encoder."""

    def __init__(self, pipe: Any) -> None:
        self._pipe = pipe

    def tokenize(self, text: str) -> str:
        return text

    def encode_from_tokens_scheduled(self, tokens: str) -> Any:
        return conditioning(self._pipe, tokens)


class Queue:
    """ComfyUI's executor with critters in the place of every checkpoint.

    What it makes is kept in `pictures`, as arrays `(height, width, 3)` of 0 to 255.
    """

    client_id = last_node_id = last_prompt_id = None

    def __init__(self, pipe: Any, own_picture: torch.Tensor | None = None) -> None:
        """A queue; `own_picture` `(1, height, width, 3)` is what LoadImage gives, by default noise."""
        import execution
        import nodes

        model, vae, pictures = comfy_model(pipe), comfy_vae(pipe), []
        self.pictures: list[np.ndarray] = pictures

        class Checkpoint:
            CATEGORY, FUNCTION, RETURN_TYPES = "test", "load", ("MODEL", "CLIP", "VAE")

            @classmethod
            def INPUT_TYPES(cls) -> dict[str, Any]:
                return {"required": {"ckpt_name": ("STRING", {})}}

            def load(self, ckpt_name: str) -> tuple[Any, ...]:  # noqa: ARG002
                return model, _Clip(pipe), vae

        class Picture:
            CATEGORY, FUNCTION, RETURN_TYPES = "test", "load", ("IMAGE", "MASK")

            @classmethod
            def INPUT_TYPES(cls) -> dict[str, Any]:
                return {"required": {"image": ("STRING", {})}}

            def load(self, image: str) -> tuple[Any, ...]:  # noqa: ARG002
                noise = torch.rand(1, 256, 256, 3, generator=torch.Generator().manual_seed(2))
                return noise if own_picture is None else own_picture, None

        class Keep:
            CATEGORY, FUNCTION, RETURN_TYPES, OUTPUT_NODE = "test", "keep", (), True

            @classmethod
            def INPUT_TYPES(cls) -> dict[str, Any]:
                return {"required": {"images": ("IMAGE",)}}

            def keep(self, images: torch.Tensor) -> tuple[()]:
                pictures.extend(np.rint(255 * one.numpy()) for one in images)
                return ()

            @classmethod
            def IS_CHANGED(cls, images: Any) -> float:  # noqa: ARG003
                return float("nan")  # shown again for every prompt

        nodes.NODE_CLASS_MAPPINGS.update(node_pack().NODE_CLASS_MAPPINGS)
        nodes.NODE_CLASS_MAPPINGS |= {"TestCheckpoint": Checkpoint, "TestPicture": Picture, "TestKeep": Keep}
        self._executor = execution.PromptExecutor(self)

    def send_sync(self, *_: Any) -> None:
        """What a page would be told."""

    def run(self, prompt: dict[str, Any]) -> list[np.ndarray]:
        """The pictures of a prompt, in the order of its nodes that keep some."""
        self.pictures.clear()
        ends = [name for name, node in prompt.items() if node["class_type"] == "TestKeep"]
        self._executor.execute(prompt, "a prompt", {}, ends)
        assert self._executor.success, self._executor.status_messages
        return list(self.pictures)


def api_prompt(workflow: dict[str, Any], changes: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """A workflow of ComfyUI's page as its server takes it.

    Args:
        workflow: as the page saves it; there must be a `Queue`.
        changes: type of a node → values of its inputs that are others.
    """
    import nodes

    links = {link[0]: [str(link[1]), link[2]] for link in workflow["links"]}
    prompt: dict[str, Any] = {}
    for node in workflow["nodes"]:
        kinds = nodes.NODE_CLASS_MAPPINGS[node["type"]].INPUT_TYPES()
        sockets = {one["name"]: links[one["link"]] for one in node["inputs"]}
        known = {**kinds.get("required", {}), **kinds.get("optional", {})}
        names = [name for name in known if name not in sockets]
        if node["type"] == "KSampler":
            names.insert(names.index("seed") + 1, "control_after_generate")
        if node["type"] == "LoadImage":
            names.append("upload")
        assert len(names) == len(node["widgets_values"]), (node["type"], names)
        values = dict(zip(names, node["widgets_values"], strict=True)) | changes.get(node["type"], {})
        kind = _STAND_INS.get(node["type"], node["type"])
        taken = nodes.NODE_CLASS_MAPPINGS[kind].INPUT_TYPES()
        taken = {**taken.get("required", {}), **taken.get("optional", {})}
        inputs = {name: value for name, value in {**values, **sockets}.items() if name in taken}
        prompt[str(node["id"])] = {"class_type": kind, "inputs": inputs}
    return prompt


def bypassed(prompt: dict[str, Any], *kinds: str) -> dict[str, Any]:
    """A prompt in which nodes of these types are bypassed: their model goes past them."""
    past = {name: node["inputs"]["model"] for name, node in prompt.items() if node["class_type"] in kinds}

    def source(value: Any) -> Any:
        while isinstance(value, list) and value[0] in past:
            value = past[value[0]]
        return value

    return {
        name: {**node, "inputs": {key: source(value) for key, value in node["inputs"].items()}}
        for name, node in prompt.items()
        if name not in past
    }
