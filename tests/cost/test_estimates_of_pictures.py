"""What edits, enlargements and pictures with a ControlNet will take, against what they do take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from scalecrafter._util.sizes import ImageSize
from scalecrafter.cost import estimate
from scalecrafter.cost.estimate import Estimator
from scalecrafter.errors import ModelError
from scalecrafter.generation.generate import generate
from scalecrafter.generation.timings import known_pictures, place_of
from scalecrafter.request.request import Request, RequestError
from tests.support.adapters import controlnet_folder

pytestmark = [pytest.mark.sampled, pytest.mark.usefixtures("cache")]

SIDE = 128
_ATTENTION = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
ON_A_CPU = {_ATTENTION: lambda query, key, value, *_, **__: sdpa_flop_count(query, key, value)}
"""Attention that torch does not count by itself."""


@pytest.fixture(scope="module")
def estimator() -> Estimator:
    return Estimator()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory, pipe: Any) -> dict[str, Any]:
    """What requests start from: files by what they are for."""
    made = tmp_path_factory.mktemp("pictures of nobody else")
    Image.linear_gradient("L").resize((SIDE, SIDE)).convert("RGB").save(made / "photo.png")
    Image.new("L", (SIDE, SIDE), 255).save(made / "mask.png")
    net = controlnet_folder(made / "net", pipe.unet)
    image, mask, control = str(made / "photo.png"), str(made / "mask.png"), str(net)
    return {
        "create": {}, "edit": {"image": image}, "inpaint": {"image": image, "mask": mask},
        "enlarge": {"image": image, "enlarge": {"scale": 2.6}, "prompt": ""},
        "control": {"controls": [{"model": control, "image": image}]},
        "controlled edit": {"image": image, "controls": [{"model": control, "image": image, "scale": 0.5}] * 2},
    }  # fmt: skip


def ask(folder: Path, pictures: dict[str, Any], what: str, **values: Any) -> Request:
    size = {} if what == "enlarge" else {"width": SIDE, "height": SIDE}
    common = {"prompt": "a fox", "model": str(folder), "steps": 4, "seed": 1, "device": "cpu"}
    return Request.from_mapping(common | size | pictures[what] | values)


@pytest.mark.parametrize(
    ("what", "method"),
    [
        *(("edit", method) for method in ("scalecrafter", "hidiffusion", "multidiffusion")),
        *(("inpaint", method) for method in ("direct", "hidiffusion")),
        *(("enlarge", method) for method in ("cascade", "fast", "direct", "scalecrafter", "upscale")),
        *(("control", "scalecrafter"), ("controlled edit", "attention-scaling")),
    ],
)
def test_the_operations_are_those_that_the_picture_takes(
    folder: Path, pipe: Any, pictures: dict[str, Any], estimator: Estimator, what: str, method: str
) -> None:
    request = ask(folder, pictures, what, method=method)
    with FlopCounterMode(display=False, custom_mapping=ON_A_CPU) as counter:
        generate(pipe, request)
    assert estimator.cost(request).flops == pytest.approx(counter.get_total_flops(), rel=0.02)


def test_half_the_strength_costs_half_the_denoising(
    folder: Path, pictures: dict[str, Any], estimator: Estimator
) -> None:
    flops = [estimator.cost(ask(folder, pictures, "edit", strength=share)).flops for share in (1.0, 0.5, 0.25)]
    whole, half, quarter = flops
    assert whole - half == 2 * (half - quarter)
    drawn = estimator.cost(ask(folder, pictures, "create")).flops
    assert drawn < whole < 1.5 * drawn  # it encodes its image as well


def test_the_size_of_a_picture_is_enough(folder: Path, estimator: Estimator, tmp_path: Path) -> None:
    Image.new("RGB", (161, 97)).save(tmp_path / "odd.png")
    for given in ({}, {"enlarge": 2, "prompt": ""}):
        common = {"prompt": "a fox", "model": str(folder), "steps": 4, "device": "cpu", **given}
        here = Request.from_mapping(common | {"image": str(tmp_path / "odd.png")})
        elsewhere = Request.from_mapping(common | {"image": "upload", "mask": None if given else "upload"})
        without_mask = elsewhere.changed(mask=None, strength=None)
        assert estimator.cost(without_mask, ImageSize(161, 97)).flops == estimator.cost(here).flops
    with pytest.raises(RequestError, match="'upload'"):
        estimator.cost(without_mask)


def test_a_controlnet_that_is_not_here_is_counted_as_the_usual_kind(
    folder: Path, pictures: dict[str, Any], estimator: Estimator
) -> None:
    plain, known = (estimator.cost(ask(folder, pictures, what)) for what in ("create", "control"))
    image = pictures["edit"]["image"]
    other = estimator.cost(
        ask(folder, pictures, "create", controls=[{"model": "nobody/has-this-controlnet", "image": image}])
    )
    assert plain.flops < known.flops < other.flops
    assert plain.memory < known.memory
    with pytest.raises(ModelError, match=r"no config\.json"):
        estimator.cost(ask(folder, pictures, "create", controls=[{"model": str(folder), "image": image}]))


@pytest.mark.parametrize("what", ["edit", "inpaint", "enlarge"])
def test_such_a_picture_is_what_the_next_one_takes(
    folder: Path, pipe: Any, pictures: dict[str, Any], cache: Path, what: str
) -> None:
    request = ask(
        folder, pictures, what, negative="nobody's secret", method="cascade" if what == "enlarge" else "direct"
    )
    result = generate(pipe, request)
    cost = Estimator().cost(request)
    assert cost.is_measured
    assert cost.seconds == pytest.approx(result.seconds)
    (kept,) = (file.read_text() for file in cache.rglob("pictures/**/*.json"))
    for name in ("secret", "a fox", "photo", "mask.png", str(folder), str(result.request.image_sha256)):
        assert name not in kept


def test_pictures_with_a_controlnet_leave_nothing(
    folder: Path, pipe: Any, pictures: dict[str, Any], cache: Path
) -> None:
    generate(pipe, ask(folder, pictures, "control"))
    assert list(cache.rglob("*.json")) == []


def test_each_kind_of_picture_is_remembered_beside_the_others(
    folder: Path, pipe: Any, pictures: dict[str, Any]
) -> None:
    for what in ("create", "edit", "inpaint"):
        generate(pipe, ask(folder, pictures, what, method="direct", steps=2))
    known = known_pictures(place_of(pipe, pipe.device, torch.float32))
    assert [(one.request.task, one.request.mask) for one in known] == [("edit", "known"), ("create", None)]


@pytest.mark.parametrize(("what", "named"), [("create", True), ("edit", False), ("control", False), ("enlarge", True)])
def test_fast_is_suggested_where_it_can_be_asked_for_that(
    folder: Path, pictures: dict[str, Any], monkeypatch: pytest.MonkeyPatch, what: str, named: bool
) -> None:
    monkeypatch.setattr(estimate, "LONG", 0.0)
    values = {"creativity": 1.0, "scale": 3} if what == "enlarge" else {}
    more = {"enlarge": values, "method": "direct"} if values else {"width": 2 * SIDE, "height": 2 * SIDE, "steps": 40}
    cost = Estimator().cost(ask(folder, pictures, what, **more))
    assert (cost.quicker == "fast") is named
