"""What everything in a detailed scene is made of: hair, feathers, grass, leaves, bricks, ripples …"""

from __future__ import annotations

import numpy as np

from .texture import Flow, Material, Values

PAIR = 90.0


def _body(x: Values, y: Values) -> Values:
    """Hair hangs down and outwards from the middle of the animal."""
    return np.asarray(np.arctan2(1.4 * x, 0.5 + 0 * y))


def _head(x: Values, y: Values) -> Values:
    """Hair lies away from the nose."""
    return np.asarray(np.arctan2(x, y - 0.1 + 0.25))


def _slope(x: Values, y: Values) -> Values:
    """Rock falls off to both sides."""
    return np.asarray(0.7 * np.sin(9 * x + 3 * y))


def _hair(flow: Flow, shaggy: bool = False) -> Material:
    if shaggy:
        return Material("lick", 0.13, 0.73, length=1.9, spread=0.5, flow=flow)
    return Material("lick", 0.11, 0.53, length=1.8, spread=0.3, flow=flow)


def coat(species: str, pattern: str, where: str) -> Material:
    """The coat of an animal on its "body" or "head", in animal heights."""
    flow = _body if where == "body" else _head
    if species == "frog":
        return Material("pebble", 0.1, 0.35, length=1.0, spread=0.2, turn=0.0, light=0.55)
    if species in ("owl", "penguin"):
        return Material("feather", 0.1, 0.53, length=1.5, spread=0.15, flow=flow)
    if species == "pig":
        return Material("bristle", 0.15, 0.36 if pattern != "fluffy" else 0.56, length=1.8, spread=0.25, flow=flow)
    return _hair(flow, pattern == "fluffy")


CLOTH = Material("stitch", 0.11, 0.53, length=1.05, each=1, spread=0.0, rows=True, stretch=(0.55, 0.8))
FELT = Material("wisp", 0.14, 0.44, length=1.8, turn=90, spread=0.25)
METAL = Material("facet", 0.09, 0.39, length=1.2, turn=30, spread=0.3)

SKY = Material("wisp", 0.2, 0.39, length=2.6, turn=88, spread=0.12, light=0.6, stretch=(2.0, 0.8))
NIGHT = Material("wisp", 0.2, 0.28, length=2.6, turn=88, spread=0.12, light=0.5, stretch=(2.0, 0.8))
CLOUD = Material("puff", 0.11, 0.53, length=1.15, spread=0.2, light=0.5)
GRASS = Material("blade", 0.13, 0.53, length=1.5, turn=180, spread=0.42, stretch=(1.1, 0.75))
FAR_GRASS = Material("blade", 0.14, 0.46, length=1.4, turn=180, spread=0.4, stretch=(1.3, 0.7))
LEAVES = Material("leaf", 0.1, 0.60, length=1.35, turn=20, spread=0.9)
NEEDLES = Material("needle", 0.12, 0.60, length=1.9, turn=0, spread=0.7, stretch=(0.7, 1.0))
FROND = Material("frond", 0.12, 0.60, length=1.8, turn=30, spread=0.5)
BARK = Material("bark", 0.12, 0.60, length=2.0, turn=0, spread=0.12)
SNOW = Material("hummock", 0.15, 0.46, length=1.5, turn=90, spread=0.2, stretch=(1.2, 0.7))
SAND = Material("ripple", 0.14, 0.46, length=1.7, turn=90, spread=0.14, stretch=(1.5, 0.6))
WATER = Material("ripple", 0.12, 0.56, length=2.0, turn=90, spread=0.08, stretch=(1.7, 0.55))
ROCK = Material("facet", 0.16, 0.53, length=1.35, flow=_slope, spread=0.3)
BRICKS = Material("brick", 0.1, 0.42, length=1.0, turn=90, spread=0.0, rows=True, stretch=(1.0, 0.5))
TILES = Material("feather", 0.08, 0.53, length=0.8, spread=0.0, rows=True, stretch=(0.6, 0.5))
COBBLES = Material("cobble", 0.13, 0.42, length=0.72, turn=90, spread=0.0, rows=True, stretch=(0.74, 0.53))
STARS = Material("star", 0.12, 1.57, length=0.4, share=0.3, light=1.0, spread=0.5)
