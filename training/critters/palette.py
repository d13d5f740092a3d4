"""The paint of each named colour: ten that stay apart by day, at sunset and at night."""

from __future__ import annotations

from .drawing import Colour

PAINT: dict[str, Colour] = {
    "red": (216, 44, 44),
    "orange": (246, 138, 30),
    "yellow": (252, 214, 52),
    "green": (78, 176, 70),
    "blue": (50, 112, 216),
    "purple": (136, 72, 190),
    "pink": (248, 142, 186),
    "brown": (132, 84, 50),
    "white": (246, 246, 248),
    "gray": (138, 142, 148),
}
