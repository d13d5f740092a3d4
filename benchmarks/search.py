"""A search over settings: every combination of a grid makes the same pictures, and a ranked table says which is best.

    python -m benchmarks.search benchmarks/grids/x4.toml --model FOLDER --world detailed --size 512x512 --pictures 16 \\
        -o runs/search-x4

Of a grid file each table is a family of tries: settings of a request, and under `grid` lists of values for further
ones, named as in JSON ("cascade.restart", "guidance").  A name that the family's recipe has in angle brackets is put
there::

    [cascade]
    method = "cascade"
    grid."cascade.restart" = [0.2, 0.4]
    grid."cascade.guidance_interval" = [[0.0, 1.0], [0.2, 0.8]]

    [span]
    recipe = '''
    [redilation]
    until = <until>
    layers = { "mid_block" = <deep>, "down_blocks.3" = <deep> }
    '''
    grid.until = [0.6, 1.0]
    grid.deep = [2, 4]

It is an evaluation (`scalecrafter eval`): stopped at any time, the same command goes on; a larger grid or more pictures
add to what is there; the folder holds pictures, contact sheets, `pictures.parquet` and the report, beside `ranked.md`.
`--share 1/4` makes every fourth prompt's pictures, for several processes, without a report.  With `--world` prompts
and real pictures are of its held-out scenes (extra `training`); else prompts ship, and `--real` may name real pictures.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
import tomllib
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from scalecrafter.evaluation.estimate import planned
from scalecrafter.evaluation.figures import KINDS
from scalecrafter.evaluation.inspection import make_inspector
from scalecrafter.evaluation.intervals import Interval
from scalecrafter.evaluation.prompts import Prompt, critters_prompts
from scalecrafter.evaluation.real_pictures import SHIPPED
from scalecrafter.evaluation.reporting import report
from scalecrafter.evaluation.runs import agree_on_inspector, make_picture, shared_choices, shared_settings
from scalecrafter.evaluation.settings import REAL, Choice, EvaluationSettings, Size
from scalecrafter.evaluation.store import RunFolder
from scalecrafter.evaluation.tables import in_words
from scalecrafter.models.loading import load_pipeline
from scalecrafter.request.request import Request, default_guidance
from scalecrafter.request.text import parse_size
from scalecrafter.unet.architecture import read_architecture

SHOWN = (
    "kid_crops_imagenet", "kid_real_imagenet", "one_object", "well_formed", "fid_real", "sharpness", "spectrum",
    "seconds",
)  # fmt: skip
_KIND = {kind.key: kind for kind in KINDS}


def tries(text: str) -> list[Choice]:
    """Every combination of a grid file, labelled by its family and the values that the grid gives it."""
    found = []
    for family, table in tomllib.loads(text).items():
        grid = table.pop("grid", {})
        for values in itertools.product(*grid.values()):
            chosen = dict(zip(grid, values, strict=True))
            request = json.loads(json.dumps(table))
            for name, value in chosen.items():
                if f"<{name}>" in request.get("recipe", ""):
                    request["recipe"] = request["recipe"].replace(f"<{name}>", json.dumps(value))
                else:
                    _put(request, name.split("."), value)
            label = "-".join(
                [family, *(f"{name.rpartition('.')[2]}={_brief(value)}" for name, value in chosen.items())]
            )
            found.append(Choice(label, {"method": "scalecrafter", **request}))
    return found


def _put(request: dict[str, Any], path: list[str], value: Any) -> None:
    for name in path[:-1]:
        request = request.setdefault(name, {})
    request[path[-1]] = value


def _brief(value: Any) -> str:
    """A value that may stand in the name of a file."""
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def ranked(cells: Sequence[dict[str, Any]], size: Size, by: str) -> list[str]:
    """The tries at one size as a Markdown table, the best by one figure first, real pictures last.

    A figure that no try has, for want of real pictures, gives way to the next of `SHOWN`.
    """
    here = [cell for cell in cells if tuple(cell["size"]) == size]
    by = next((key for key in (by, *SHOWN) if any(key in cell["figures"] for cell in here)), by)
    sign = -1 if _KIND[by].better == "more" else 1
    here.sort(key=lambda cell: (cell["method"] == REAL, sign * cell["figures"].get(by, {"value": 1e9})["value"]))
    shown = [_KIND[key] for key in dict.fromkeys((by, *SHOWN)) if any(key in cell["figures"] for cell in here)]
    lines = [f"**{size[0]}×{size[1]}**, best {_KIND[by].heading} first", ""]
    lines += [
        "| try | pictures | " + " | ".join(kind.heading for kind in shown) + " |",
        "| --- " * (len(shown) + 2) + "|",
    ]
    for cell in here:
        figures = {key: Interval(**value) for key, value in cell["figures"].items()}
        texts = [in_words(kind, figures.get(kind.key)) for kind in shown]
        lines.append(f"| {cell['method']} | {cell['pictures']} | " + " | ".join(texts) + " |")
    return [*lines, ""]


def scenes_of(world: str, count: int) -> list[Prompt]:
    """Captions of held-out scenes of a world, with what they promise."""
    from training.critters.evaluation_prompts import prompts

    return [
        Prompt(
            str(one["prompt"]), {key: str(one[key]) for key in ("species", "colour", "accessory")}, int(one["scene"])
        )
        for one in prompts(count, world)
    ]


def draw_real(folder: Path, prompts: Sequence[Prompt], world: str, size: Size) -> None:
    """Real pictures of the prompts' scenes, those that are not there yet."""
    from PIL import Image

    from training.critters.renderer import render
    from training.critters.scene import sample_scene

    target = folder / f"{size[0]}x{size[1]}"
    target.mkdir(parents=True, exist_ok=True)
    for index, prompt in enumerate(prompts):
        path = target / f"{index:04d}.png"
        if not path.exists() and prompt.scene is not None:
            Image.fromarray(render(sample_scene(prompt.scene, world), *size)).save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("grid", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--model", default="critters")
    parser.add_argument("--size", action="append", required=True, metavar="WxH", help="repeatable")
    parser.add_argument("--pictures", type=int, default=8, help="of each try at each size")
    parser.add_argument("--native", type=int, default=0, help="native pictures, to compare with")
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--guidance", type=float, default=default_guidance("critters"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dtype")
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--world", choices=("flat", "detailed"), help="whose held-out scenes are prompts and real pictures"
    )
    parser.add_argument("--real", type=Path, help="folder of real pictures, as eval takes it")
    parser.add_argument("--features", default="imagenet")
    parser.add_argument("--by", default="kid_crops_imagenet", choices=sorted(_KIND), help="the figure that ranks")
    parser.add_argument("--share", default="1/1", metavar="K/N", help="make share K of N, without a report")
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    share, shares = map(int, options.share.split("/"))
    sizes = tuple(parse_size(text) for text in options.size)
    prompts = scenes_of(options.world, max(options.pictures, options.native)) if options.world else critters_prompts()
    base = Request(
        prompt="search", model=options.model, steps=options.steps, guidance=options.guidance, seed=options.seed,
        dtype=options.dtype, device=options.device,
    )  # fmt: skip
    chosen = tuple(tries(options.grid.read_text("utf-8")))
    settings = EvaluationSettings(base, tuple(prompts), sizes, chosen, options.pictures, options.native)
    for choice in chosen:
        choice.request(base).resolved_recipe()  # mistakes are told before any work

    pipe, store = load_pipeline(options.model, dtype=options.dtype, device=options.device), RunFolder(options.output)
    store.claim(
        shared_settings(pipe, settings), shared_choices(settings), f"python -m benchmarks.search {options.grid}"
    )
    inspector = make_inspector(options.features, observe=True)
    agree_on_inspector(store, inspector, lambda _done, _all: None, again=False)
    samples = [one for one in settings.samples(read_architecture(pipe).native_size) if one.index % shares == share - 1]
    missing = [one for one in samples if not store.finished(one)]
    minutes = sum(cell.pictures * (cell.seconds_each or 0) for cell in planned(pipe, missing)) / 60
    print(
        f"{len(chosen)} tries, {len(missing)} of {len(samples)} pictures to make, {minutes:.0f} min or so", flush=True
    )
    began = time.monotonic()
    for done, sample in enumerate(missing, 1):
        seconds = make_picture(pipe, sample, store, inspector)
        left = (time.monotonic() - began) / done * (len(missing) - done) / 60
        size = f"{sample.size[0]}x{sample.size[1]}"
        print(
            f"{done}/{len(missing)} {sample.label} {size} #{sample.index}: {seconds:.1f} s, {left:.0f} min left",
            flush=True,
        )
    if shares > 1:
        return

    real = options.real
    if real is None and options.world:
        real = options.output.with_name(f"{options.output.name}-real")
        wanted = [*sizes, *([read_architecture(pipe).native_size] if options.native else [])]
        for size in wanted:
            draw_real(real, prompts[: max(options.pictures, options.native)], options.world, size)
    report(store, inspector, real, None if real else SHIPPED, lambda _name: nullcontext(lambda _done, _all: None))
    cells = json.loads((store.folder / "report.json").read_text())["cells"]
    text = "\n".join(line for size in sizes for line in ranked(cells, size, options.by))
    (store.folder / "ranked.md").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
