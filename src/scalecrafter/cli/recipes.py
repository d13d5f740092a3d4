"""`scalecrafter recipes`: the shipped recipes, and whether a recipe of your own will do what it says."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import RecipeError
from ..models.sources import locate
from ..request.request import RequestError
from .app import FAILED, Command, CommandGroup, app, complain
from .options import AllowPickle, Config

if TYPE_CHECKING:
    from ..recipes.recipe import Recipe

recipes = typer.Typer(cls=CommandGroup, no_args_is_help=True, help="List, show and check recipes.")
app.add_typer(recipes, name="recipes")


@recipes.command("list", cls=Command)
def list_recipes() -> None:
    """The shipped recipes, one a line: name, size, and what each does."""
    from ..recipes.recipe import Recipe, shipped_recipes

    names = shipped_recipes()
    width = max((len(name) for name in names), default=0)
    for name in names:
        print(f"{name.ljust(width)}  {summary(Recipe.load(name))}")


@recipes.command("show", cls=Command)
def show(name: Annotated[str, typer.Argument(help="Name of a shipped recipe, or .toml file.")]) -> None:
    """Print a recipe as TOML, ready to be saved and changed."""
    from ..recipes.recipe import Recipe

    print(Recipe.load(name).to_toml().rstrip())


@recipes.command("check", cls=Command)
def check(
    files: Annotated[list[str], typer.Argument(help="Recipe files (or shipped names).")],
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Also check every layer against this model.")
    ] = None,
    config: Config = None,
    allow_pickle: AllowPickle = False,
) -> None:
    """Check the format of recipes and, with --model, that the model has every layer they name.  Exit code 1 if not."""
    from ..recipes.recipe import Recipe, near_recipes, shipped_recipes

    for file in files:
        if file not in shipped_recipes() and not Path(file).is_file():
            raise RequestError(f"no shipped recipe and no file is named {file!r}{near_recipes(file)}")
    outline = None
    if model is not None:
        locate(model, config)

        from ..models.denoisers import read_model
        from ..models.loading import load_outline
        from ..patching.plan import plan

        outline = load_outline(model, config=config, allow_pickle=allow_pickle)
        native = read_model(outline).native_size
    wrong = 0
    for file in files:
        try:
            recipe = Recipe.load(file)
            found = summary(recipe)
            if outline is not None:
                planned = plan(outline, native.height, native.width, recipe=recipe)
                layers = f"{len(planned.factors(0))} layers re-dilated, {len(planned.dispersed(0))} dispersed"
                found += f"; on {model}: {layers}" if recipe.redilation or recipe.dispersion else f"; fits {model}"
            print(f"{file}: good: {found}")
        except RecipeError as error:
            wrong += 1
            complain(f"{file}: {str(error).removeprefix(f'{file}: ')}")
    if wrong:
        raise typer.Exit(FAILED)


def summary(recipe: Recipe) -> str:
    """What a recipe is for and what it does, in one line."""
    parts: list[str] = [recipe.architecture]
    if recipe.width and recipe.height:
        parts.append(f"{recipe.width}×{recipe.height}")
    if recipe.redilation:
        factors = [axis for pair in recipe.redilation.layers.values() for axis in pair]
        span = f"{min(factors):g}" if min(factors) == max(factors) else f"{min(factors):g}–{max(factors):g}"
        kind = ", progressive" if recipe.redilation.progressive else ""
        parts.append(f"re-dilation {span} until {recipe.redilation.until:g}{kind}")
        if recipe.redilation.layers_until:
            parts[-1] += f" ({', '.join(recipe.redilation.layers_until)} sooner)"
    if recipe.dispersion:
        parts.append(f"dispersion until {recipe.dispersion.until:g}")
    if recipe.noise_damping:
        parts.append(f"noise damping until {recipe.noise_damping.until:g}")
    if recipe.freeu:
        parts.append("FreeU")
    if recipe.positions:
        factor = f" {recipe.positions.factor:g}" if recipe.positions.factor else ""
        parts.append(f"positions by {recipe.positions.method}{factor} until {recipe.positions.until:g}")
    if recipe.attention:
        parts.append(f"attention {recipe.attention.temperature} until {recipe.attention.until:g}")
    if recipe.schedule:
        parts.append(f"schedule shifted: {recipe.schedule.shift}")
    return "; ".join(parts)
