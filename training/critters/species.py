"""The build of each species: where the head sits, its outline, the eyes, the body."""

from __future__ import annotations

from dataclasses import dataclass

Half = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Build:
    """Proportions; the head's outline, eyes and hat are in head radii, the rest in animal heights."""

    head: Half
    """Right half of the head, top to chin."""
    head_r: float
    head_y: float
    body: float
    """Half width."""
    body_top: float
    neck_y: float
    eye_x: float = 0.42
    eye_y: float = -0.12
    eye_r: float = 0.24
    hat_y: float = -0.78
    hat_scale: float = 1.0


ROUND: Half = ((0, -0.92), (0.5, -0.85), (0.92, -0.42), (1.06, 0.15), (0.86, 0.68), (0.42, 0.92), (0, 0.96))

BUILDS: dict[str, Build] = {
    "cat": Build(
        ((0, -0.84), (0.5, -0.8), (0.95, -0.35), (1.14, 0.22), (0.86, 0.68), (0.42, 0.88), (0, 0.92)),
        0.27, -0.6, 0.2, -0.42, -0.335,
    ),
    "dog": Build(
        ((0, -0.92), (0.5, -0.86), (0.84, -0.45), (0.88, 0.15), (0.84, 0.62), (0.48, 0.94), (0, 1.0)),
        0.3, -0.695, 0.21, -0.46, -0.38, eye_x=0.38, eye_y=-0.2, hat_y=-0.82,
    ),
    "fox": Build(
        ((0, -0.76), (0.5, -0.74), (0.92, -0.3), (1.34, 0.34), (0.8, 0.62), (0.32, 0.92), (0, 1.0)),
        0.265, -0.59, 0.175, -0.42, -0.315, eye_y=-0.08, hat_y=-0.68,
    ),
    "bear": Build(ROUND, 0.295, -0.65, 0.25, -0.44, -0.355, eye_y=-0.15, eye_r=0.21, eye_x=0.4),
    "rabbit": Build(
        ((0, -0.88), (0.48, -0.8), (0.84, -0.36), (1.02, 0.25), (0.82, 0.72), (0.4, 0.92), (0, 0.94)),
        0.235, -0.53, 0.18, -0.38, -0.295, hat_y=-0.74, hat_scale=0.9,
    ),
    "mouse": Build(
        ((0, -0.82), (0.46, -0.76), (0.82, -0.36), (0.9, 0.15), (0.68, 0.6), (0.34, 0.9), (0, 0.98)),
        0.27, -0.64, 0.17, -0.45, -0.365, eye_x=0.36, hat_y=-0.7, hat_scale=0.85,
    ),
    "pig": Build(
        ((0, -0.86), (0.56, -0.8), (1.0, -0.36), (1.14, 0.18), (0.94, 0.68), (0.46, 0.9), (0, 0.92)),
        0.29, -0.66, 0.255, -0.44, -0.375, eye_x=0.5, eye_y=-0.2, eye_r=0.21, hat_y=-0.76,
    ),
    "owl": Build(
        ((0, -0.72), (0.5, -0.78), (0.98, -0.55), (1.12, 0.05), (0.98, 0.6), (0.5, 0.9), (0, 0.96)),
        0.29, -0.64, 0.265, -0.52, -0.345, eye_x=0.44, eye_y=-0.08, eye_r=0.3, hat_y=-0.68,
    ),
    "penguin": Build(
        ((0, -0.96), (0.5, -0.86), (0.88, -0.42), (0.98, 0.12), (0.9, 0.6), (0.5, 0.94), (0, 1.0)),
        0.255, -0.745, 0.235, -0.62, -0.48, eye_x=0.38, eye_y=-0.12, hat_y=-0.84,
    ),
    "frog": Build(
        ((0, -0.62), (0.5, -0.64), (1.05, -0.4), (1.36, 0.15), (1.12, 0.62), (0.55, 0.82), (0, 0.86)),
        0.29, -0.6, 0.23, -0.42, -0.335, eye_x=0.72, eye_y=-0.72, eye_r=0.29, hat_y=-0.6, hat_scale=0.66,
    ),
}  # fmt: skip
