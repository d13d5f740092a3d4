"""The judge that this project did not train: its network, its features, and what it sees that the observer does not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from scalecrafter.errors import ScaleCrafterError
from scalecrafter.evaluation import imagenet
from scalecrafter.evaluation.distances import kid
from scalecrafter.evaluation.figures import measure_cell
from scalecrafter.evaluation.imagenet import EfficientNetLite0, load_imagenet, normalised
from scalecrafter.evaluation.inspection import FeatureExtractor, Inspector
from scalecrafter.evaluation.intervals import Floats
from scalecrafter.evaluation.real_pictures import inspected
from scalecrafter.evaluation.rows import PictureRow, read_parquet, write_parquet

REFERENCE = Path(__file__).with_name("imagenet_reference.json")
"""What another implementation says of a picture: the model code of the PyPI package efficientnet-lite-pytorch 0.1.0
(by ml-illustrated, Apache-2.0) with the same weights, in float32."""


def pattern() -> Image.Image:
    """A picture that numbers alone describe."""
    rows, columns = np.mgrid[:224, :224]
    shades = np.stack([rows * columns % 251, (rows // 8 + columns // 8) % 2 * 200, np.abs(rows - columns)], axis=-1)
    return Image.fromarray(shades.astype(np.uint8))


@pytest.fixture(scope="module")
def network() -> EfficientNetLite0:
    found = EfficientNetLite0()
    found.load(published())
    return found.eval()


def published() -> dict[str, Tensor]:
    from importlib.resources import files

    weights: dict[str, Tensor] = torch.load(str(files(imagenet.PACKAGE) / imagenet.FILE), weights_only=True)
    return weights


def test_features_and_classes_are_those_of_another_implementation(network: EfficientNetLite0) -> None:
    reference = json.loads(REFERENCE.read_text())
    found = load_imagenet()(pattern())
    assert found.shape == (1280,)
    np.testing.assert_allclose(found[::8], reference["features"], atol=2e-4)
    with torch.no_grad():
        logits = network.classifier(network(normalised(pattern())[None]))[0]
    np.testing.assert_allclose(logits[::8], reference["logits"], atol=2e-3)


def test_every_weight_has_its_published_place_and_fusing_changes_nothing(network: EfficientNetLite0) -> None:
    names, weights, own_weights = dict(network._published_names()), published(), network.state_dict()
    assert sorted(names.values()) == sorted(weights)
    for own, theirs in names.items():
        assert torch.equal(own_weights[own], weights[theirs])
    fused = EfficientNetLite0()
    fused.load(weights)
    with torch.no_grad():
        torch.testing.assert_close(fused.fuse()(torch.zeros(1, 3, 64, 96)), network(torch.zeros(1, 3, 64, 96)))


@pytest.mark.parametrize("side", [15, 16, 17])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 1), (5, 2)])
def test_padding_is_tensorflows(side: int, kernel: int, stride: int) -> None:
    """As many outputs as ceil(side / stride), what is odd of the padding at the end."""
    unit = imagenet.Unit(2, 3, kernel, stride, active=False).eval()
    x = torch.randn(1, 2, side, side, generator=torch.Generator().manual_seed(0))
    out = -(-side // stride)
    missing = max((out - 1) * stride + kernel - side, 0)
    padded = torch.zeros(1, 2, side + missing, side + missing)
    padded[..., missing // 2 : missing // 2 + side, missing // 2 : missing // 2 + side] = x
    expected = F.conv2d(padded, unit.convolution.weight, stride=stride) / (1 + 1e-3) ** 0.5
    torch.testing.assert_close(unit(x), expected)
    assert expected.shape[-2:] == (out, out)


def test_weights_of_something_else_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = published()
    with pytest.raises(ScaleCrafterError, match="not the weights"):
        EfficientNetLite0().load({**weights, "_conv_stem.weight": torch.zeros(1)})
    with pytest.raises(ScaleCrafterError, match="larger network"):
        EfficientNetLite0().load({**weights, "_blocks.16._bn0.weight": torch.zeros(1)})
    monkeypatch.setattr(imagenet, "SHA256", "0")
    with pytest.raises(ScaleCrafterError, match="not the published file"):
        load_imagenet()


@pytest.mark.training
def test_few_small_enlarged_pictures_are_told_from_real_ones_by_the_judge_and_by_the_spectrum(tmp_path: Path) -> None:
    """As other real pictures are not: twelve meadows of the world with detail at every scale, 224 pixels a side."""
    pytest.importorskip("skia")
    from training.critters.renderer import render
    from training.critters.scene import sample_scene

    side, number = imagenet.SIDE, 12
    inspector = Inspector("imagenet", None, {"imagenet": FeatureExtractor(load_imagenet(), side)})

    def rows(first: int, rendered: int) -> list[PictureRow]:
        found = []
        for index in range(number):
            scene = replace(sample_scene(first + index, "detailed"), place="meadow", time="day")
            picture = Image.fromarray(render(scene, rendered, rendered)).resize((side, side), Image.Resampling.LANCZOS)
            found.append(inspected(picture, index, str(index), inspector))
        return found

    real, other, enlarged = rows(0, side), rows(number, side), rows(number, side // 4)
    same, blurred = (measure_cell("a", (side, side), seen, real, ()).figures for seen in (other, enlarged))
    for key in ("kid_real_imagenet", "spectrum"):
        assert same[key].high < blurred[key].low
    assert blurred["sharpness"].high < -1 < same["sharpness"].low

    write_parquet(other, tmp_path / "rows.parquet")
    again, _ = read_parquet(tmp_path / "rows.parquet")
    for row, read in zip(other, again, strict=True):
        assert read.metrics.features["imagenet"].whole == pytest.approx(row.metrics.features["imagenet"].whole)


def test_the_kernel_distance_of_crops_leaves_out_pairs_of_one_picture() -> None:
    def kernel(x: Floats, y: Floats) -> float:
        return float((x @ y / len(x) + 1) ** 3)

    def within(side: Floats) -> float:
        pairs = [(i, j) for i in range(len(side)) for j in range(len(side)) if i // 2 != j // 2]
        return float(np.mean([kernel(side[i], side[j]) for i, j in pairs]))

    rng = np.random.default_rng(0)
    left, right = rng.normal(0.2, 1, (8, 5)), rng.normal(0, 1, (8, 5))
    expected = within(left) + within(right) - 2 * float(np.mean([kernel(x, y) for x in left for y in right]))
    assert kid(left, right, each=2, resamples=10).value == pytest.approx(expected, rel=1e-9)


def test_resamples_that_drew_one_picture_alone_do_not_count_for_the_kernel_distance() -> None:
    rng = np.random.default_rng(0)
    found = kid(rng.normal(3, 1, (2, 5)), rng.normal(0, 1, (2, 5)))
    assert [found.low, found.high] == pytest.approx([found.value] * 2)  # no other resample has two pictures a side
