"""Transformers: positions number by number, and what else a pipeline may have: ControlNet, LoRA, tables' ends."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor, nn

import scalecrafter
from scalecrafter import Recipe
from scalecrafter.ops.rotary import PositionScaling, whole_ids
from scalecrafter.transformer.architecture import image_grid
from scalecrafter.transformer.families import TRANSFORMERS

from ..support.reference_transformers import Reference, by_hand, frequency
from ..support.tiny_transformers import (
    CASES,
    embeddings,
    flow_scheduler,
    quiet,
    seeded,
    tiny_flux,
    tiny_hunyuan_image,
    tiny_wan,
)
from .test_transformers import LARGE, NATIVE, close, recipe, same

FLUX = CASES["flux"]
GRAPHS = {"flux": 2, "chroma": 2, "flux2": 2, "qwen-image": 2, "z-image": 7, "sd3": 3, "sana": 1}
"""Of a compiled transformer: positions are computed outside of them."""


@pytest.mark.parametrize("method", ["interpolate", "ntk", "yarn"])
@pytest.mark.parametrize(
    ("dim", "theta", "native"), [(56, 10000.0, 64), (48, 256.0, 64), (6, 2000.0, 8), (2, 256.0, 8)]
)
def test_frequencies_are_those_of_the_formulas(method: Any, dim: int, theta: float, native: int) -> None:
    for scale in (0.5, 1.0, 1.25, 4.0):
        ours = PositionScaling(method, 0.5, 20.0).frequencies(dim, theta, scale, native)
        for pair, rate in enumerate(ours.tolist()):
            if dim > 2 or method != "ntk":
                assert rate == pytest.approx(frequency(pair, dim, theta, scale, method, native, 0.5, 20.0), rel=1e-12)


def seen_embedding(pipe: Any, block: nn.Module, run: Any) -> Any:
    """What the first call of a block gets as rotary embedding."""
    seen: list[Any] = []

    def look(_module: nn.Module, args: Any, kwargs: Any) -> None:
        found = kwargs.get("image_rotary_emb", kwargs.get("freqs_cis"))
        seen.append(found if found is not None else next(x for x in args if isinstance(x, Tensor) and x.is_complex()))

    handle = block.register_forward_pre_hook(look, with_kwargs=True)
    run(pipe)
    handle.remove()
    return seen[0]


@pytest.mark.parametrize("method", ["interpolate", "ntk", "yarn"])
@pytest.mark.parametrize("size", [(12, 10), (16, 8), (7, 20)])
@pytest.mark.parametrize("family", ["flux", "chroma", "flux2", "qwen-image"])
def test_cos_and_sin_are_those_of_float64(family: str, method: str, size: tuple[int, int]) -> None:
    case = CASES[family]
    pipe = case.make()
    block = pipe.transformer.transformer_blocks[0]
    with scalecrafter.applied(pipe, recipe=recipe(family, method, "yarn")):
        ours = seen_embedding(pipe, block, lambda pipe: case.run(pipe, *size))
    tokens = size[0] * size[1] / 64
    magnitude = 0.1 * float(torch.tensor(tokens).double().sqrt().log()) + 1 if tokens > 1 else 1.0
    reference = Reference(method, NATIVE, size, magnitude)
    own = pipe.transformer.pos_embed
    if family == "qwen-image":
        theirs = reference.qwen(5, own.axes_dim, own.theta)
    else:
        image = [[0, row, column, 0] for row in range(size[0]) for column in range(size[1])]
        ids = torch.tensor([[0, 0, 0, place if family == "flux2" else 0] for place in range(5)] + image)
        theirs = reference.cos_sin(reference.by_ids(ids[:, : len(own.axes_dim)], own.axes_dim, own.theta))
    for one, other in zip(ours, theirs, strict=True):
        pairs = (torch.view_as_real(one), torch.view_as_real(other)) if one.is_complex() else (one, other)
        assert (pairs[0] - pairs[1]).abs().max() <= 1e-6


@pytest.mark.parametrize("size", [(300, 3), (2, 301), (259, 258)])
def test_positions_that_bfloat16_has_rounded_are_counted_anew(size: tuple[int, int]) -> None:
    """Pipelines keep ids in the type of the weights, and bfloat16 has no odd numbers above 256."""
    pipe = CASES["flux"].make()
    ids = torch.tensor([[1.0, row, column] for row in range(size[0]) for column in range(size[1])])
    rounded = ids.bfloat16()
    assert not same(rounded.float(), ids)
    assert same(whole_ids(rounded), ids.double())
    given = {"img_ids": rounded, "hidden_states": torch.zeros(1, len(ids), 4)}
    assert image_grid(TRANSFORMERS["flux"], pipe.transformer, given) == size
    backwards = rounded.flip(0)  # no picture row by row: as it is
    assert same(whole_ids(backwards), backwards.double())


def test_the_caches_of_qwen_are_not_touched() -> None:
    case = CASES["qwen-image"]
    pipe = case.make()
    embedding = pipe.transformer.pos_embed
    tables = embedding.pos_freqs.clone(), embedding.neg_freqs.clone()
    embedding._compute_video_freqs = None  # the function with the cache
    with scalecrafter.applied(pipe, recipe=recipe("qwen-image")):
        case.run(pipe, *LARGE)
    assert same(embedding.pos_freqs, tables[0])
    assert same(embedding.neg_freqs, tables[1])


@pytest.mark.parametrize(("family", "size"), [("z-image", (40, 34)), ("sd3", (16, 14))])
def test_sizes_above_a_table_work_where_positions_are_scaled(family: str, size: tuple[int, int]) -> None:
    case = CASES[family]
    pipe = case.make()
    with pytest.raises((IndexError, ValueError)):
        case.run(pipe, *size)
    with scalecrafter.applied(pipe, recipe=recipe(family)):
        assert case.run(pipe, *size).isfinite().all()
    attention_only = Recipe.from_mapping({"native": list(NATIVE), "attention": {"temperature": 1.2}})
    called: list[int] = []
    handle = pipe.transformer.register_forward_hook(lambda *_: called.append(1))
    told = pytest.raises(scalecrafter.ModelError, match=r"tables hold \d+ positions along an axis, and \d+ tokens")
    with scalecrafter.applied(pipe, recipe=attention_only), told:
        case.run(pipe, *size)
    handle.remove()
    assert not called


def flux_with_control() -> Any:
    """FLUX.1 with a ControlNet, which has positions and attention of its own."""
    control = seeded(
        lambda: diffusers.FluxControlNetModel(
            in_channels=4, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
            joint_attention_dim=32, pooled_projection_dim=32, axes_dims_rope=[4, 6, 6], guidance_embeds=True,
        ),
        seed=5,
    )  # fmt: skip
    return control, tiny_flux()


def test_a_control_net_gets_the_same_positions() -> None:
    control, transformer = flux_with_control()
    ids = torch.tensor([[0.0, row, column] for row in range(12) for column in range(10)])
    pipe = quiet(diffusers.FluxControlNetPipeline(flow_scheduler(), None, None, None, None, None, transformer, control))
    arguments = {
        "hidden_states": embeddings(1, 120, 4, seed=7), "timestep": torch.tensor([0.5]), "img_ids": ids,
        "txt_ids": torch.zeros(5, 3), "guidance": torch.tensor([3.5]), "return_dict": False,
        "encoder_hidden_states": embeddings(1, 5, 32), "pooled_projections": embeddings(1, 32),
    }  # fmt: skip
    condition = embeddings(1, 120, 4, seed=8)
    before = control(controlnet_cond=condition, **arguments)[0][0]
    with scalecrafter.applied(pipe, recipe=recipe("flux", "ntk", 1.2)):
        ours = control(controlnet_cond=condition, **arguments)[0][0]
    pipe.transformer = control  # whose parts have the same names
    with by_hand(pipe, "flux", Reference("ntk", NATIVE, (12, 10)), 1.2):
        theirs = control(controlnet_cond=condition, **arguments)[0][0]
    assert close(ours, theirs)
    assert not close(ours, before)
    assert same(control(controlnet_cond=condition, **arguments)[0][0], before)
    assert "_scalecrafter_control" not in control.__dict__


def test_text_with_positions_of_its_own_keeps_them() -> None:
    transformer = tiny_flux()
    text = torch.tensor([[0.0, place, place] for place in range(5)])
    image = torch.tensor([[1.0, 5 + row, 5 + column] for row in range(16) for column in range(16)])
    ids = torch.cat([text, image])
    cos, sin = transformer.pos_embed(ids)
    seen: list[Any] = []
    transformer.transformer_blocks[0].register_forward_pre_hook(
        lambda _module, _args, kwargs: seen.append(kwargs["image_rotary_emb"]), with_kwargs=True
    )
    named = Recipe.from_mapping({"native": [8, 8], "positions": {"method": "interpolate"}})
    with scalecrafter.applied(transformer, recipe=named):
        transformer(
            hidden_states=embeddings(1, 256, 4), encoder_hidden_states=embeddings(1, 5, 32), img_ids=image,
            pooled_projections=embeddings(1, 32), timestep=torch.tensor([0.9]), txt_ids=text, guidance=torch.ones(1),
        )  # fmt: skip
    assert same(seen[0][0][:5], cos[:5])
    assert same(seen[0][1][:5], sin[:5])
    halves = torch.cat([image[:, :1], 5 + (image[:, 1:] - 5) / 2], dim=1)
    expected = transformer.pos_embed(halves)
    assert (seen[0][0][5:] - expected[0]).abs().max() < 1e-6


@pytest.mark.parametrize("method", ["interpolate", "ntk", "yarn"])
@pytest.mark.parametrize(("family", "frames"), [("wan", (3,)), ("hunyuan-image", ())])
def test_the_predictions_of_wan_and_hunyuan_image_are_those_by_hand(
    family: str, frames: tuple[int, ...], method: str
) -> None:
    wan = family == "wan"
    transformer = tiny_wan() if wan else tiny_hunyuan_image()
    patch = 2 if wan else 1
    arguments = {
        "hidden_states": embeddings(2, 4, *frames, 12 * patch, 10 * patch), "timestep": torch.tensor([900.0, 900.0]),
        "encoder_hidden_states": embeddings(2, 5, 32), "return_dict": False,
    } | ({} if wan else {"encoder_attention_mask": torch.ones(2, 5)})  # fmt: skip
    before = transformer(**arguments)[0]
    with scalecrafter.applied(transformer, recipe=recipe(family, method, 1.2)):
        ours = transformer(**arguments)[0]
    own = transformer.rope
    dims, theta = ((own.t_dim, own.h_dim, own.w_dim), 10000.0) if wan else (own.rope_dim, own.theta)
    places = [[row, column] for row in range(12) for column in range(10)]
    ids = torch.tensor([[time, *place] for time in range(3) for place in places] if wan else places)
    reference = Reference(method, NATIVE, LARGE)
    cos, sin = reference.cos_sin(reference.by_ids(ids, dims, theta, (1, 2) if wan else (0, 1)))
    plain = own.forward
    own.forward = lambda _: (cos[None, :, None], sin[None, :, None]) if wan else (cos, sin)
    holder = SimpleNamespace(transformer=transformer)
    with by_hand(holder, family, reference, 1.2):
        theirs = transformer(**arguments)[0]
    del own.forward
    assert plain == own.forward
    assert close(ours, theirs)
    assert not close(ours, before)
    assert same(transformer(**arguments)[0], before)


def test_a_copy_of_the_pipeline_is_on_its_own() -> None:
    pipe = scalecrafter.apply(CASES["flux"].make(), recipe=recipe("flux", schedule={"shift": "native"}))
    ours = FLUX.run(pipe, *LARGE)
    twin = copy.deepcopy(pipe)
    assert same(FLUX.run(twin, *LARGE), ours)
    scalecrafter.remove(pipe)
    assert same(FLUX.run(twin, *LARGE), ours)


def test_another_scheduler_after_apply_is_told() -> None:
    pipe = scalecrafter.apply(CASES["flux"].make(), recipe=recipe("flux", schedule={"shift": "native"}))
    pipe.scheduler = flow_scheduler()
    with pytest.raises(scalecrafter.ModelError, match=r"pipe\.scheduler is another one"):
        FLUX.run(pipe, *LARGE)


def test_another_transformer_after_apply_is_told() -> None:
    pipe = scalecrafter.apply(CASES["flux"].make(), recipe=recipe("flux"))
    own, pipe.transformer = pipe.transformer, tiny_flux()
    with pytest.raises(scalecrafter.ModelError, match=r"pipe\.transformer is another one"):
        FLUX.run(pipe, *LARGE)
    scalecrafter.remove(pipe)
    assert FLUX.run(pipe, *LARGE).isfinite().all()
    assert "_scalecrafter" not in own.__dict__


@pytest.mark.slow
@pytest.mark.parametrize(("family", "graphs"), GRAPHS.items())
def test_a_compiled_transformer_needs_so_many_graphs_and_no_more(family: str, graphs: int) -> None:
    case = CASES[family]
    pipe = case.make()
    with scalecrafter.applied(pipe, recipe=recipe(family)):
        eager = case.run(pipe, *LARGE)
    made: list[Any] = []

    def backend(graph: Any, _inputs: Any) -> Any:
        made.append(graph)
        return graph.forward

    torch._dynamo.reset()
    pipe.transformer.compile(backend=backend)
    with scalecrafter.applied(pipe, recipe=recipe(family)):
        for _ in range(2):
            assert close(case.run(pipe, *LARGE), eager)
            assert len(made) == graphs
    torch._dynamo.reset()
