"""Which pictures an evaluation asks for: fixed prompts, fixed seeds, an order in which half a run compares fairly."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from scalecrafter.evaluation.prompts import Prompt, critters_prompts, read_prompts
from scalecrafter.evaluation.settings import Choice, EvaluationSettings
from scalecrafter.request.request import Request, RequestError

NATIVE = (128, 128)


def settings(**changed: Any) -> EvaluationSettings:
    values: dict[str, Any] = {
        "base": Request(prompt="evaluation", seed=10, steps=3, guidance=2.0),
        "prompts": (Prompt("a fox", {"species": "fox"}), Prompt("a cat", {"species": "cat"})),
        "sizes": ((256, 256), (256, 128)),
        "choices": (Choice("direct", {"method": "direct"}), Choice("scalecrafter", {"method": "scalecrafter"})),
        "pictures": 3,
        "native_pictures": 4,
    }
    return EvaluationSettings(**(values | changed))


def test_the_shipped_prompts_promise_all_attributes_and_are_balanced() -> None:
    prompts = critters_prompts()
    assert len(prompts) == 512
    assert len({prompt.text for prompt in prompts}) == 512
    for start in (0, 100, 400):
        pairs = {(prompt.expected["species"], prompt.expected["colour"]) for prompt in prompts[start : start + 100]}
        assert len(pairs) == 100
    worn = Counter(prompt.expected["accessory"] for prompt in prompts)
    assert set(worn) == {"none", "scarf", "hat", "bow tie", "glasses", "crown"}
    assert min(worn.values()) > 30
    assert all(prompt.scene is not None and prompt.scene >= 10_000_000 for prompt in prompts)


def test_a_text_file_is_a_prompt_a_line_with_nothing_promised(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("a fox\n\n# no\na cat\n")
    assert read_prompts(tmp_path / "p.txt") == [Prompt("a fox"), Prompt("a cat")]


def test_json_lines_may_promise_some_attributes(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('{"prompt": "a red fox", "colour": "red", "note": "x"}\n\n{"prompt": "a cat"}\n')
    assert read_prompts(path) == [Prompt("a red fox", {"colour": "red"}), Prompt("a cat")]


@pytest.mark.parametrize(
    "line", ["{", "[" * 100_000, '{"text": "a fox"}', '{"prompt": " "}', '["a fox"]', '{"prompt": 3}']
)
def test_a_damaged_line_is_named_by_its_number(tmp_path: Path, line: str) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('{"prompt": "a fox"}\n' + line)
    with pytest.raises(RequestError, match="line 2"):
        read_prompts(path)


def test_prompts_that_are_missing_or_empty_are_errors(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="cannot read"):
        read_prompts(tmp_path / "none.jsonl")
    (tmp_path / "p.jsonl").write_text("\n")
    with pytest.raises(RequestError, match="no prompt"):
        read_prompts(tmp_path / "p.jsonl")


def test_every_cell_has_the_same_prompts_and_seeds() -> None:
    cells: dict[tuple[str, tuple[int, int]], list[tuple[str, int | None]]] = {}
    for sample in settings().samples(NATIVE):
        assert (sample.request.width, sample.request.height) == sample.size
        assert (sample.request.steps, sample.request.guidance, sample.request.prompt) == (3, 2.0, sample.prompt.text)
        cells.setdefault((sample.label, sample.size), []).append((sample.request.prompt, sample.request.seed))
    native = cells.pop(("native", NATIVE))
    assert len(cells) == 4
    assert all(cell == [("a fox", 10), ("a cat", 11), ("a fox", 12)] for cell in cells.values())
    assert [prompt for prompt, _ in native] == ["a fox", "a cat", "a fox", "a cat"]


def test_native_pictures_have_seeds_of_their_own() -> None:
    samples = list(settings(pictures=50, native_pictures=50).samples(NATIVE))
    native = {sample.request.seed for sample in samples if sample.label == "native"}
    assert len(native) == 50
    assert not native & {sample.request.seed for sample in samples if sample.label != "native"}


def test_a_run_that_was_stopped_has_the_same_prompts_of_all_methods() -> None:
    samples = list(settings().samples(NATIVE))
    for stopped in range(5, len(samples)):
        made = Counter(sample.label + str(sample.size) for sample in islice(samples, stopped))
        assert max(made.values()) - min(made.values()) <= 1


def test_a_choice_carries_any_setting_of_a_request() -> None:
    choice = Choice("slow", {"method": "scalecrafter", "steps": 9, "guidance": 5.0})
    sample = next(sample for sample in settings(choices=(choice,)).samples(NATIVE) if sample.label == "slow")
    assert (sample.request.steps, sample.request.guidance) == (9, 5.0)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"pictures": 1}, "at least 2"),
        ({"native_pictures": 1}, "0 \\(none\\) or at least 2"),
        ({"prompts": ()}, "at least one prompt"),
        ({"sizes": ()}, "at least one size"),
        ({"choices": ()}, "at least one method"),
        ({"sizes": ((256, 256), (256, 256))}, "256x256 is asked for twice"),
        ({"choices": (Choice("a", {}), Choice("a", {}))}, "a is asked for twice"),
        ({"choices": (Choice("native", {}),)}, "cannot name a method"),
        ({"base": Request(prompt="x", seed=2**53 - 1)}, "smaller one"),
    ],
)
def test_an_evaluation_that_cannot_be_is_refused(changed: dict[str, Any], told: str) -> None:
    with pytest.raises(RequestError, match=told):
        settings(**changed)
