"""Sizes as people write them."""

from __future__ import annotations

import pytest

from scalecrafter._util.memory import bytes_refused, parse_bytes, parse_memory_budget
from scalecrafter.errors import ScaleCrafterError


@pytest.mark.parametrize(
    ("text", "size"),
    [("4GiB", 4 << 30), (" 512 mib ", 512 << 20), ("1.5GB", 1_500_000_000), ("2048", 2048), ("20m", 20 << 20),
     ("lots", None), ("4 GiB x", None), ("-1GiB", None), ("4XiB", None), ("", None), ("9" * 400, None)],
)  # fmt: skip
def test_a_size_is_read_as_people_write_it(text: str, size: int | None) -> None:
    assert parse_bytes(text) == size


def test_what_is_too_small_for_a_budget_is_told_by_whether_it_has_a_unit() -> None:
    with pytest.raises(ScaleCrafterError, match=r"--vae-memory is '200KiB'.* too little: give 1MiB or more"):
        parse_memory_budget("200KiB", "--vae-memory")
    for without_unit in ("4", 4):
        with pytest.raises(ScaleCrafterError, match="name the unit"):
            parse_memory_budget(without_unit)


def test_the_size_that_torch_refused_is_read_from_its_message() -> None:
    refused = RuntimeError("CUDA out of memory. Tried to allocate 1.50 GiB. GPU 0 has")
    assert bytes_refused(refused) == 3 << 29
    assert bytes_refused(RuntimeError("DefaultCPUAllocator: tried to allocate 4096 bytes.")) == 4096
    assert bytes_refused(RuntimeError("something else")) is None
