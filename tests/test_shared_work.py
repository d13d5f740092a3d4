"""What the evaluations of one U-Net call have in common runs once, and the picture is the one of whole evaluations."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor2_0
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import scalecrafter
from scalecrafter import Recipe
from tests.support import tasks
from tests.support.reference_in_pipelines import relative
from tests.support.tasks import DAMPED, SIZE, Task
from tests.support.tiny_models import tiny_sd_unet, tiny_sdxl_unet

ROUNDING = 1e-5
LATE = """
[redilation]
until = 1
layers = { "mid_block" = 2, "up_blocks.0" = 3 }
[noise_damping]
until = 1
layers = { "mid_block" = 2 }
"""
"""Both denoisers have the way down and the middle in common."""


def operations(work: Callable[[], Tensor]) -> tuple[Tensor, int]:
    """What some work gives, and its operations; torch does not count the CPU's own attention kernel."""
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        result = work()
    return result, counter.get_total_flops()


def look_inside(unet: Any) -> Any:
    """Somebody else's hook on the first layer, which makes the evaluations whole ones; returns its handle."""
    first = next(module for module in unet.down_blocks[0].modules() if isinstance(module, nn.Linear | nn.Conv2d))
    return first.register_forward_hook(lambda *_: None)


def several(task: Task) -> Task:
    return Task(task.pipe, lambda size: task.call(size) | {"num_images_per_prompt": 2})


def text_to_image(kind: str, path: Path) -> Task:
    return several(tasks.text_to_image(kind, path))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "kind", "recipe"),
    [
        (text_to_image, "sd", DAMPED),
        (text_to_image, "sdxl", LATE),
        (tasks.t2i_adapter, "sd", LATE),
        (tasks.t2i_adapter, "sdxl", DAMPED),
        (tasks.controlnet, "sd", LATE),
    ],
)
def test_less_is_computed_for_the_same_picture(
    make: Callable[[str, Path], Task], kind: str, recipe: str, tmp_path: Path
) -> None:
    task = make(kind, tmp_path)
    with scalecrafter.applied(task.pipe, recipe=Recipe.parse(recipe)):
        shared, operations_of_shared = operations(lambda: task.run(SIZE))
        handle = look_inside(task.pipe.unet)
        whole, operations_of_whole = operations(lambda: task.run(SIZE))
        handle.remove()
    assert relative(shared, whole) < ROUNDING
    assert operations_of_shared < 0.99 * operations_of_whole


class Counting(AttnProcessor2_0):  # type: ignore[misc]
    """An attention processor of a user's own, which keeps count of the rows it sees."""

    rows: list[int]

    def __call__(self, attn: Any, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        self.rows.append(hidden_states.shape[0])
        result: Tensor = super().__call__(attn, hidden_states, *args, **kwargs)
        return result


def arguments(rows: int = 2, differ: bool = False) -> tuple[Any, ...]:
    generator = torch.Generator().manual_seed(0)
    sample = torch.randn(1, 4, 32, 32, generator=generator).expand(rows, -1, -1, -1).clone()
    if differ:
        sample[-1] += 0.1
    return sample, torch.tensor(900), torch.randn(rows, 7, 32, generator=generator)


def test_a_users_attention_processor_sees_every_evaluation_whole() -> None:
    unet = tiny_sd_unet()
    processor = Counting()
    processor.rows = []
    unet.down_blocks[0].attentions[0].transformer_blocks[0].attn1.set_processor(processor)
    scalecrafter.apply(unet, recipe=Recipe.parse(LATE), guided=True)
    unet(*arguments())
    assert processor.rows == [2, 1]


def test_a_users_hook_sees_every_evaluation_whole() -> None:
    unet, rows = tiny_sd_unet(), list[int]()
    handle = unet.down_blocks[1].register_forward_hook(lambda _module, _args, output: rows.append(len(output[0])))
    scalecrafter.apply(unet, recipe=Recipe.parse(LATE), guided=True)
    unet(*arguments())
    assert rows == [2, 1]
    handle.remove()


def sample_of(unet: Any) -> Tensor:
    sample: Tensor = unet(*arguments()).sample
    return sample


class Own(UNet2DConditionModel):  # type: ignore[misc]
    """A user's own U-Net, which does more between its stages than we know."""

    def forward(self, sample: Tensor, timestep: Any, *args: Any, **kwargs: Any) -> Any:
        return super().forward(sample * 1.0, timestep, *args, **kwargs)


def test_a_unet_with_a_forward_of_its_own_is_evaluated_whole() -> None:
    known, own = tiny_sd_unet(), tiny_sd_unet()
    own.__class__ = Own
    found = []
    for unet in (known, own):
        scalecrafter.apply(unet, recipe=Recipe.parse(LATE), guided=True)
        found.append(operations(partial(sample_of, unet)))
    assert relative(found[0][0], found[1][0]) < ROUNDING
    assert found[0][1] < 0.9 * found[1][1]


@pytest.mark.parametrize("differ", [False, True], ids=["the same latents", "other latents"])
def test_the_first_self_attention_runs_once_where_both_halves_are_the_same(differ: bool) -> None:
    """Without damping, too; with other latents in the second half it runs for both, and nothing is mixed up."""
    unet, recipe = tiny_sd_unet(), Recipe.parse('[redilation]\nuntil = 1\nlayers = { "mid_block" = 2 }')
    plain, all_operations = operations(lambda: unet(*arguments(differ=differ)).sample)
    scalecrafter.apply(unet, recipe=recipe, guided=True)
    changed, fewer = operations(lambda: unet(*arguments(differ=differ)).sample)
    assert (fewer < all_operations) is not differ
    first = unet.down_blocks[0].attentions[0].transformer_blocks[0].attn1
    handle = first.to_q.register_forward_hook(lambda *_: None)
    whole = unet(*arguments(differ=differ)).sample
    handle.remove()
    assert relative(changed, whole) < ROUNDING
    assert relative(changed, plain) > 0.01


def test_halves_that_differ_by_more_than_the_text_share_no_attention() -> None:
    """SDXL's embeddings of text and size act before its first attention."""
    unet = tiny_sdxl_unet()
    config, generator = unet.config, torch.Generator().manual_seed(0)
    pooled = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
    added = {"text_embeds": torch.randn(2, pooled, generator=generator), "time_ids": torch.ones(2, 6)}
    sample, timestep, _ = arguments()
    text = torch.randn(2, 7, config.cross_attention_dim, generator=generator)
    rows = list[int]()
    scalecrafter.apply(unet, recipe=Recipe.parse('[redilation]\nuntil = 1\nlayers = { "mid_block" = 2 }'), guided=True)
    attention = next(module for module in unet.down_blocks.modules() if hasattr(module, "to_q"))
    handle = attention.to_q.register_forward_hook(lambda _module, _args, output: rows.append(len(output)))
    unet(sample, timestep, text, added_cond_kwargs=added)
    handle.remove()
    assert rows == [2]


def test_nothing_is_kept_after_an_exception() -> None:
    unet = tiny_sd_unet()
    scalecrafter.apply(unet, recipe=Recipe.parse(LATE), guided=True)
    expected = unet(*arguments()).sample

    def explode(*_: Any) -> None:
        raise RuntimeError("on the way up")

    handle = unet.up_blocks[0].register_forward_pre_hook(explode)
    with pytest.raises(RuntimeError, match="on the way up"):
        unet(*arguments())
    handle.remove()
    assert torch.equal(unet(*arguments()).sample, expected)
    scalecrafter.remove(unet)
    assert not any(module._forward_hooks or "forward" in module.__dict__ for module in unet.modules())
