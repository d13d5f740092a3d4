"""Recipe × transformer × size × step → positions, attention and schedule; and the automatic recipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from math import sqrt

from torch import nn

from .._util.sizes import GridSize
from ..errors import RecipeError
from ..ops.entropy import entropy_scale
from ..ops.rotary import PositionScaling, yarn_magnitude
from ..transformer.architecture import TransformerArchitecture
from ..transformer.positions import PositionChanges
from ..unet.architecture import Architecture
from ..unet.families import ANY
from .recipe import Recipe, Redilation
from .resolution import UNCHANGED, LayerChanges, ResolvedRecipe, resolve
from .transformer_sections import AttentionTemperature, Positions, Schedule

SANA_UNTIL = 0.7
"""Where the automatic recipe ends the dilation of Sana's convolutions, as that of a U-Net's finest level."""


@dataclass(frozen=True)
class TransformerChanges:
    """What one call of a transformer does; all empty where nothing changes."""

    positions: PositionChanges | None = None
    temperature: float | None = None
    """By which queries are multiplied."""
    layers: LayerChanges = UNCHANGED

    def with_tokens(self, text: int, image: int) -> TransformerChanges:
        """The same where so many tokens of text come before so many of images."""
        assert self.positions is not None
        return replace(self, positions=replace(self.positions, text_tokens=text, image_tokens=image))


@dataclass(frozen=True)
class ResolvedTransformer:
    """A recipe for one transformer."""

    recipe: Recipe
    architecture: TransformerArchitecture
    convolutions: ResolvedRecipe | None = None

    def _native(self, section: Positions | AttentionTemperature | Schedule | None) -> GridSize:
        override = (section.native if section else None) or self.recipe.native
        return GridSize(*override) if override else self.architecture.native

    def changes(self, place: Fraction, grid: GridSize) -> TransformerChanges:
        """What a call does at `place` of the trajectory (0 is pure noise) with `grid` image tokens.

        Nothing where there are no more tokens than in training.
        """
        positions, attention = self.recipe.positions, self.recipe.attention
        scaling, magnitude, temperature = None, 1.0, None
        native = self._native(positions)
        if positions and place < _exact(positions.until) and (grid.height > native.height or grid.width > native.width):
            scaling = PositionScaling(positions.method, positions.alpha, positions.beta, positions.factor)
        trained = self._native(attention)
        tokens, native_tokens = grid.height * grid.width, trained.height * trained.width
        if attention and place < _exact(attention.until) and tokens > native_tokens:
            if attention.temperature == "yarn":
                magnitude = yarn_magnitude(sqrt(tokens / native_tokens))
            elif attention.temperature == "entropy":
                temperature = entropy_scale(tokens, native_tokens)
            else:
                temperature = attention.temperature
        moved = scaling is not None or magnitude != 1
        return TransformerChanges(
            PositionChanges(scaling, native, grid, magnitude) if moved else None,
            temperature,
            self.convolutions.structure(place) if self.convolutions else UNCHANGED,
        )

    def native_tokens(self) -> int:
        """Tokens of the trained size, for the schedule."""
        native = self._native(self.recipe.schedule)
        return native.height * native.width

    def shifts(self, grid: GridSize) -> bool:
        """Whether the schedule changes for `grid` image tokens."""
        section = self.recipe.schedule
        changes = section is not None and section.shift != "pipeline"
        return changes and grid.height * grid.width > self.native_tokens()


def _exact(value: float) -> Fraction:
    return Fraction(repr(float(value)))


def resolve_transformer(
    recipe: Recipe, architecture: TransformerArchitecture, convolutions: Mapping[str, tuple[nn.Conv2d, ...]]
) -> ResolvedTransformer:
    """A recipe for a transformer; `convolutions` are its, by module path.

    Raises:
        RecipeError: for a recipe of another architecture, a section that this one has no use for, or a prefix that
            matches nothing.
    """
    family = architecture.family
    if recipe.architecture not in (ANY, family):
        raise RecipeError(f"this recipe is for the architecture {recipe.architecture!r}, and this model is {family!r}")
    recipe.refuse_sections_besides(architecture.kind.sections, f"a transformer of the family {family}")
    if recipe.attention and recipe.attention.temperature == "yarn" and architecture.kind.embedding == "table":
        raise RecipeError(
            f'[attention] temperature = "yarn" multiplies cos and sin, and the family {family} has a table instead of '
            'rotary positions: use "entropy" or a number'
        )
    resolved = None
    if recipe.redilation or recipe.dispersion:
        about = Architecture(
            family=family,
            native_height=architecture.native.height,
            native_width=architecture.native.width,
            levels=1,
            pixel_factor=architecture.pixels,
            convolutions=convolutions,
        )
        resolved = resolve(Recipe(redilation=recipe.redilation, dispersion=recipe.dispersion), about)
    return ResolvedTransformer(recipe, architecture, resolved)


def automatic_transformer_recipe(architecture: TransformerArchitecture, grid: GridSize, shifts: bool) -> Recipe | None:
    """The recipe for `grid` image tokens, or None where the model needs no help.

    Args:
        architecture: of the transformer.
        grid: image tokens of the picture.
        shifts: whether the scheduler's shift depends on the size.
    """
    native, kind = architecture.native, architecture.kind
    tokens, native_tokens = grid.height * grid.width, native.height * native.width
    if tokens < kind.draws_unhelped * native_tokens:
        return None
    if "positions" not in kind.sections:
        factors = tuple(round(max(now / own, 1.0), 3) for now, own in zip(grid, native, strict=True))
        layers = {"transformer_blocks": (factors[0], factors[1])}
        return Recipe(architecture=kind.name, redilation=Redilation(until=SANA_UNTIL, layers=layers))
    return Recipe(
        architecture=kind.name,
        positions=Positions(method="interpolate" if kind.embedding == "table" else "yarn"),
        attention=AttentionTemperature(temperature="entropy"),
        schedule=Schedule(shift="native") if shifts else None,
    )
