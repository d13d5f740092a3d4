"""What a U-Net carries beside its weights: hooks, patched forwards, attributes."""

from __future__ import annotations

from typing import Any

from torch import nn


def attributes(unet: nn.Module) -> dict[str, dict[str, Any]]:
    """Every module's attributes, one level into its dictionaries."""
    return {
        path: {k: dict(v) if isinstance(v, dict) else v for k, v in module.__dict__.items()}
        for path, module in unet.named_modules()
    }


def assert_untouched(before: dict[str, dict[str, Any]], unet: nn.Module) -> None:
    after = attributes(unet)
    assert before.keys() == after.keys()
    for path, known in before.items():
        assert known.keys() == after[path].keys(), path
        for key, value in known.items():
            now = after[path][key]
            same = now is value or (
                value.keys() == now.keys() and all(now[k] is v or now[k] == v for k, v in value.items())
                if isinstance(value, dict)
                else now == value
            )
            assert same, f"{path}.{key}"
