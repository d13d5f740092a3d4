"""The schedulers that a request may name, in plain values."""

from __future__ import annotations

from .._util.extras import need_extra

SCHEDULERS = {
    "ddim": "DDIM",
    "ddpm": "DDPM",
    "deis": "DEIS",
    "dpm2": "DPM2",
    "dpm2-a": "DPM2 a",
    "dpm++": "DPM++ 2M",
    "dpm++-karras": "DPM++ 2M Karras",
    "dpm++-2m-sde": "DPM++ 2M SDE",
    "dpm++-2s": "DPM++ 2S",
    "dpm++-sde": "DPM++ SDE",
    "euler": "Euler",
    "euler-a": "Euler a",
    "heun": "Heun",
    "lcm": "LCM",
    "lms": "LMS",
    "pndm": "PLMS",
    "tcd": "TCD",
    "unipc": "UniPC",
}
"""The schedulers by short name, with the names that image viewers of this field know them by."""
FLOW_SCHEDULERS = frozenset({"euler"})
"""Of them, those that follow the straight paths of flow matching, as transformers do."""
SCHEDULER_EXTRAS = {"dpm++-sde": "sde", "lms": "mat"}
"""Those that need a package of an extra."""


def check_scheduler(name: str | None) -> None:
    """Raise `MissingExtraError` where a scheduler needs a package that is not installed."""
    if name in SCHEDULER_EXTRAS:
        need_extra(f"the scheduler {name!r}", SCHEDULER_EXTRAS[name])
