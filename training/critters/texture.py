"""Textures of elements in octaves: detail at every scale, from the size of the object down to a few output pixels.

Octave k is a lattice of cells of pitch `coarsest / 2**k` with one or two elements a cell, whose places, turns and tones
are a hash of cell, octave and seed.  So they are the same elements at any resolution: a larger picture only adds finer
octaves.  All octaves have the same contrast, which makes the power spectrum fall as 1/f² (each octave of frequencies
has four times the area of the one below it, and a quarter of its density).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields

import numpy as np
import skia
from numpy.typing import NDArray

from .sprites import OFFSETS, STEPS, TURNS, VARIANTS, WIDTH, lay, patches, sprites

Values = NDArray[np.float64]
Flow = Callable[[Values, Values], Values]
"""Where elements point: local x, y to an angle in radians, 0 down, growing counter-clockwise as seen (to the right)."""
FADE = (5.0, 7.0)
"""Pixels: shorter elements are not drawn; up to the second they come in gently."""
COMPACT = 0.75
"""Elements at least half as wide as long may be so much shorter: they hold no finer detail than slender ones."""
MOST_OCTAVES = 12
LONGEST_PATCH = 20.0
"""Pixels: octaves of longer elements are drawn, the others added up from patches."""
MOST_PENDING = 4_000_000
"""Pixels of patches that wait to be added: some 100 MB."""
MARGIN = 24
"""Around the sums, for elements that lie across the edge."""


@dataclass(frozen=True)
class Material:
    """How something is made of elements; lengths in the units of the thing (animal or picture heights)."""

    shape: str
    coarsest: float
    """Pitch of the coarsest octave."""
    contrast: float
    """Opacity of an element."""
    length: float = 1.8
    """Of an element, in pitches."""
    each: int = 1
    """Elements a cell."""
    share: float = 1.0
    """Of the cells that have any."""
    light: float = 0.5
    """Share of the elements that are lighter than their ground; the others are darker."""
    turn: float = 0.0
    """Degrees from straight down to where elements point."""
    spread: float = 0.3
    """Radians by which they stray from there."""
    flow: Flow | None = None
    rows: bool = False
    """Laid in rows, every second one shifted by half a cell, none out of its place."""
    stretch: tuple[float, float] = (1.0, 1.0)
    """Of cells: columns' and rows' distance in pitches."""


@dataclass(frozen=True)
class Texture:
    """Masks of the lighter and darker elements over a rectangle of the device."""

    lighter: skia.Image
    darker: skia.Image
    left: int
    top: int

    def paint(self, mask: skia.Image, matrix: skia.Matrix, colour: int) -> skia.Paint:
        """A paint that lays one of the masks in a colour, under the canvas's present matrix."""
        inverse = skia.Matrix()
        matrix.invert(inverse)
        inverse.preTranslate(self.left, self.top)
        decal = skia.TileMode.kDecal
        shader = mask.makeShader(decal, decal, skia.SamplingOptions(), inverse)
        return skia.Paint(AntiAlias=True, Color=colour, Shader=shader)


def _hash(ix: NDArray[np.int64], iy: NDArray[np.int64], salt: int) -> NDArray[np.uint64]:
    """Splitmix64 of a cell."""
    with np.errstate(over="ignore"):
        z = ix.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + iy.astype(np.uint64) * np.uint64(0xC2B2AE3D27D4EB4F)
        z += np.uint64(salt * 0x165667B19E3779F9 & 0xFFFFFFFFFFFFFFFF)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(z ^ (z >> np.uint64(31)))


def _uniforms(h: NDArray[np.uint64]) -> list[Values]:
    """Four numbers in 0…1 of each hash."""
    return [((h >> np.uint64(16 * k)) & np.uint64(0xFFFF)).astype(np.float64) / 65535 for k in range(4)]


@dataclass
class Weaver:
    """Makes the textures of one picture, each once."""

    width: int
    height: int
    made: dict[tuple[object, ...], Texture | None] = field(default_factory=dict)

    def weave(
        self,
        material: Material,
        seed: int,
        matrix: skia.Matrix,
        bounds: tuple[float, float, float, float] | None = None,
        unit: float = 1.0,
    ) -> Texture | None:
        """The texture in the coordinates of `matrix` (local to device), where it and `bounds` (local) show.

        `unit` is the length of the material's unit in local ones.  None where nothing shows.
        """
        key = (material, seed, tuple(matrix.get9()), bounds, unit)
        if key not in self.made:
            self.made[key] = self._weave(material, seed, matrix, bounds, unit)
        return self.made[key]

    def _weave(
        self,
        material: Material,
        seed: int,
        matrix: skia.Matrix,
        bounds: tuple[float, float, float, float] | None,
        unit: float,
    ) -> Texture | None:
        device = skia.Rect.MakeWH(self.width, self.height)
        if bounds is not None:
            shown = matrix.mapRect(skia.Rect.MakeLTRB(*bounds))
            if not device.intersect(shown):
                return None
        left, top = int(np.floor(device.left())), int(np.floor(device.top()))
        wide, high = int(np.ceil(device.right())) - left, int(np.ceil(device.bottom())) - top
        if wide < 1 or high < 1:
            return None
        masks = _Masks(wide, high)
        inverse = skia.Matrix()
        matrix.invert(inverse)
        local = inverse.mapRect(skia.Rect.MakeXYWH(left, top, wide, high))
        shown = (local.left(), local.top(), local.right(), local.bottom())
        place = np.array(matrix.get9()).reshape(3, 3)
        scale = float(np.sqrt(abs(np.linalg.det(place[:2, :2]))))
        for octave in range(MOST_OCTAVES):
            pitch = material.coarsest * unit / 2**octave
            length = material.length * pitch * scale
            cut = COMPACT if WIDTH[material.shape] >= 0.5 else 1.0
            weight = min((length / cut - FADE[0]) / (FADE[1] - FADE[0]), 1.0)
            if weight <= 0:
                break
            for copy in range(material.each):
                elements = elements_of(material, pitch, (seed * 16 + octave) * 4 + copy, shown)
                masks.add(elements.on_device(place, (left, top), scale), material.shape, weight * material.contrast)
        return Texture(*masks.images(), left, top)


@dataclass(frozen=True)
class Elements:
    """Elements of one octave: middles, directions (from straight down, towards the right), lengths, and looks."""

    x: Values
    y: Values
    angle: Values
    length: Values
    tone: Values
    """-1 (dark) to 1 (light)."""
    variant: NDArray[np.int64]

    def on_device(self, place: Values, origin: tuple[int, int], scale: float) -> Elements:
        """The same in pixels, from `origin` on, under a 3×3 matrix."""
        dx = place[0, 0] * self.x + place[0, 1] * self.y + (place[0, 2] - origin[0])
        dy = place[1, 0] * self.x + place[1, 1] * self.y + (place[1, 2] - origin[1])
        vx, vy = np.sin(self.angle), np.cos(self.angle)
        angle = np.arctan2(place[0, 0] * vx + place[0, 1] * vy, place[1, 0] * vx + place[1, 1] * vy)
        return Elements(dx, dy, angle, self.length * scale, self.tone, self.variant)

    def __getitem__(self, rows: NDArray[np.bool_]) -> Elements:
        """Some of them."""
        return Elements(*(getattr(self, each.name)[rows] for each in fields(self)))


def elements_of(material: Material, pitch: float, salt: int, shown: tuple[float, float, float, float]) -> Elements:
    """The elements of an octave whose cells touch the rectangle (left, top, right, bottom), in local units."""
    across, down = pitch * material.stretch[0], pitch * material.stretch[1]
    margin = material.length * 0.65 * pitch
    columns = np.arange(
        np.floor((shown[0] - margin) / across), np.ceil((shown[2] + margin) / across) + 1, dtype=np.int64
    )
    rows = np.arange(np.floor((shown[1] - margin) / down), np.ceil((shown[3] + margin) / down) + 1, dtype=np.int64)
    iy, ix = (grid.ravel() for grid in np.meshgrid(rows, columns, indexing="ij"))
    along, below, stray, tone = _uniforms(_hash(ix, iy, salt))
    size, lot, variant, more = _uniforms(_hash(ix, iy, salt + 0x5851F42D))
    if material.rows:
        x, y, size = (ix + 0.5 * (iy % 2)) * across, (iy * 1.0) * down, np.ones_like(size)
    else:
        x, y, size = (ix + along) * across, (iy + below) * down, 0.75 + 0.5 * size
    angle = np.full_like(x, np.radians(material.turn)) if material.flow is None else material.flow(x, y)
    light, dark = material.light, 1.0 - material.light
    tone = np.where(tone < light, 0.5 + tone / max(light, 1e-9), -0.5 - (1.0 - tone) / max(dark, 1e-9)) / 1.5
    elements = Elements(
        x=x,
        y=y,
        angle=angle + material.spread * 1.4 * (stray + more - 1.0),
        length=material.length * pitch * size,
        tone=tone,
        variant=(variant * (VARIANTS - 1e-6)).astype(np.int64),
    )
    return elements if material.share >= 1.0 else elements[lot < material.share]


class _Masks:
    """Two masks that elements are laid on, lighter and darker.

    Short elements are added up as patches (what shows through many is the exponential of their sum), long ones drawn.
    """

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.stride, self.rows = width + 2 * MARGIN, height + 2 * MARGIN
        self.places: list[NDArray[np.int64]] = []
        self.values: list[Values] = []
        self.pending = 0
        self.sums: Values | None = None
        self.surfaces = [skia.Surface.MakeRaster(skia.ImageInfo.MakeA8(width, height)) for _ in range(2)]
        self.drawn = False

    def add(self, elements: Elements, shape: str, contrast: float) -> None:
        reach = elements.length * 0.6 + 1
        shows = (elements.x > -reach) & (elements.x < self.width + reach)
        shows &= (elements.y > -reach) & (elements.y < self.height + reach)
        elements = elements[shows]
        if not len(elements.x):
            return
        if elements.length.max() <= LONGEST_PATCH:
            self._add_patches(elements, shape, contrast)
        else:
            self._draw(elements, shape, contrast)

    def _draw(self, elements: Elements, shape: str, contrast: float) -> None:
        self.drawn = True
        source = sprites(shape, float(elements.length.max()))
        for surface, side in zip(self.surfaces, (elements.tone > 0, elements.tone <= 0), strict=True):
            e = elements[side]
            opacity = 1.0 - np.exp(-contrast * np.abs(e.tone))
            lay(surface.getCanvas(), source, e.x, e.y, e.angle, e.length, e.variant, opacity)

    def _add_patches(self, elements: Elements, shape: str, contrast: float) -> None:
        step = np.rint(STEPS * np.log2(np.maximum(elements.length, 1.0))).astype(np.int64)
        turn = np.rint(elements.angle * (TURNS / (2 * np.pi))).astype(np.int64) % TURNS
        column, row = np.floor(elements.x).astype(np.int64), np.floor(elements.y).astype(np.int64)
        across = ((elements.x - column) * OFFSETS).astype(np.int64)
        down = ((elements.y - row) * OFFSETS).astype(np.int64)
        look = ((elements.variant * TURNS + turn) * OFFSETS + down) * OFFSETS + across
        corner = (row + MARGIN) * self.stride + column + MARGIN + (elements.tone <= 0) * (self.rows * self.stride)
        strength = contrast * np.abs(elements.tone)
        for each in range(int(step.min()), int(step.max()) + 1):
            chosen = np.flatnonzero(step == each)
            if not len(chosen):
                continue
            bank = patches(shape, each)
            first = bank.first[look[chosen]]
            count = bank.first[look[chosen] + 1] - first
            ends = np.cumsum(count)
            entry = np.arange(ends[-1]) + np.repeat(first - ends + count, count)
            self.places.append(np.repeat(corner[chosen], count) + bank.down[entry] * self.stride + bank.across[entry])
            self.values.append(np.repeat(strength[chosen], count) * bank.values[entry])
            self.pending += int(ends[-1])
            if self.pending > MOST_PENDING:
                self._sum_up()

    def _sum_up(self) -> None:
        if self.places:
            size = 2 * self.rows * self.stride
            total = np.bincount(np.concatenate(self.places), np.concatenate(self.values), size)[:size].reshape(2, -1)
            self.sums = total if self.sums is None else self.sums + total
        self.places, self.values, self.pending = [], [], 0

    def images(self) -> list[skia.Image]:
        self._sum_up()
        sums = np.zeros((2, self.rows * self.stride)) if self.sums is None else self.sums
        out = []
        for surface, total in zip(self.surfaces, sums, strict=True):
            cut = total.reshape(self.rows, self.stride)[MARGIN:-MARGIN, MARGIN:-MARGIN]
            through = np.exp(-cut)
            info = skia.ImageInfo.MakeA8(self.width, self.height)
            pixels = np.zeros((self.height, self.width), np.uint8)
            if self.drawn:
                surface.readPixels(info, pixels, self.width, 0, 0)
                through *= 1.0 - pixels / np.float32(255)
            pixels = ((1.0 - through) * 255 + 0.5).astype(np.uint8)
            out.append(skia.Image.MakeRasterCopy(skia.Pixmap(info, pixels, self.width)))
        return out
