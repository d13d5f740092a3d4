"""`scalecrafter eval`: quality measured, method against method, on pictures with the same prompts and seeds."""

from __future__ import annotations

import platform
import shlex
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .._util.extras import need_extra
from ..generation.checks import facts_of_model
from ..models.embedded import EMBEDDED_MODELS
from ..request.methods import METHODS
from ..request.request import DEFAULT_STEPS, Request, RequestError
from ..request.text import parse_size
from .app import Command, app
from .eval_progress import EvaluationReporter
from .options import AllowPickle, Config, Guidance, Model, Scheduler, Steps

if TYPE_CHECKING:
    from ..evaluation.inspection import Inspector
    from ..evaluation.settings import Choice, EvaluationSettings
    from ..evaluation.store import RunFolder

OBSERVERS = "critters"
"""Features that are made for what the embedded models draw."""
DEFAULT_FEATURES = "imagenet"
OWN_TO_A_PICTURE = ("prompt", "model", "width", "height", "seed", "dtype", "device")
"""What a variant cannot set, since the run sets it."""


@app.command("eval", cls=Command)
def evaluate(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder of the run. Run the same command again to resume.")
    ] = Path("runs/quality"),
    model: Model = None,
    size: Annotated[
        list[str] | None,
        typer.Option("--size", "-s", metavar="WxH", help="Image pixels; repeatable. (default: twice the native side)"),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option("--method", help=f"{', '.join(METHODS)}; repeatable. (default: direct and scalecrafter)"),
    ] = None,
    recipe: Annotated[
        list[Path] | None,
        typer.Option("--recipe", "-r", help="A .toml recipe, under the name recipe-<stem>; repeatable."),
    ] = None,
    variant: Annotated[
        list[Path] | None,
        typer.Option(
            "--variant", help="A .toml file of request settings, as method and cascade, under its stem; repeatable."
        ),
    ] = None,
    pictures: Annotated[int, typer.Option("--pictures", help="Pictures for each method at each size.")] = 32,
    native_pictures: Annotated[
        int | None,
        typer.Option(
            "--native-pictures", help="Pictures at the native size to compare with; 0 for none. (default: --pictures)"
        ),
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(
            "--prompts",
            help="A prompt a line, or .jsonl with prompt, species, colour, accessory. (default: the shipped ones)",
        ),
    ] = None,
    features: Annotated[
        str | None,
        typer.Option(
            "--features",
            help="For the distances: imagenet, critters (the observer alone), inception (weights are fetched) or none. "
            "(default: imagenet, for critters beside the observer's)",
        ),
    ] = None,
    real: Annotated[
        Path | None,
        typer.Option("--real", help="Folder of real pictures, or of folders named WxH. (default: shipped figures)"),
    ] = None,
    steps: Steps = None,
    guidance: Guidance = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of picture 0; picture i has i more.")] = 0,
    scheduler: Scheduler = None,
    dtype: Annotated[
        str | None, typer.Option("--dtype", help="fp32, fp16 or bf16. (default: fp16 on CUDA, else fp32)")
    ] = None,
    device: Annotated[
        str | None, typer.Option("--device", help="auto, cpu, cuda, cuda:1, mps. (default: auto)")
    ] = None,
    config: Config = None,
    allow_pickle: AllowPickle = False,
    join: Annotated[
        list[Path] | None,
        typer.Option(
            "--join",
            help="The pictures.parquet of another run with the same settings, for example from another machine. Its "
            "pictures count as made; repeatable.",
        ),
    ] = None,
    report_only: Annotated[
        bool, typer.Option("--report-only", help="Make no pictures: inspect those in the folder again, and report.")
    ] = False,
) -> None:
    """Measure quality: compare methods on pictures with the same prompts and seeds.

    Stop it at any time, and run the same command again to resume. You can add sizes, methods and pictures to a folder
    later; the report (Markdown, CSV, JSON, Parquet, plots, contact sheets) covers all that the folder holds.
    """
    need_extra("eval", "evaluation")

    from ..evaluation.store import RunFolder

    store = RunFolder(output)
    known = store.manifest
    if report_only and not known:
        raise RequestError(f"there is no evaluation in {str(output)!r} to report on: run it without --report-only")
    if real is not None and not real.is_dir():
        raise RequestError(f"there is no folder {str(real)!r} with real pictures")
    asked = {
        "prompt": "evaluation", "model": known["shared"]["model"] if report_only else model,
        "steps": DEFAULT_STEPS if steps is None else steps, "guidance": guidance, "seed": seed,
        "scheduler": scheduler, "dtype": dtype, "device": device,
    }  # fmt: skip
    base = Request.from_mapping({name: value for name, value in asked.items() if value is not None}, "eval")
    if features is None:
        features = known.get("inspector", {}).get("name") or DEFAULT_FEATURES
    critters = base.model in EMBEDDED_MODELS or features == OBSERVERS

    settings, loading = None, {"config": config, "allow_pickle": allow_pickle}
    if not report_only:
        chosen = choices(base, method, recipe, variant)
        sizes = _sizes(base.model, [parse_size(text) for text in size or []], loading)
        natives = pictures if native_pictures is None else native_pictures
        settings = _settings(base, chosen, sizes, prompts, pictures, natives, critters)

    from ..evaluation.inspection import make_inspector
    from ..evaluation.real_pictures import SHIPPED
    from ..evaluation.reporting import report
    from ..evaluation.tables import FEW, few_pictures

    with EvaluationReporter() as reporter:
        if settings is not None and pictures < FEW:
            reporter.note(few_pictures(pictures))
        inspector = make_inspector(features, observe=critters)
        if settings is not None:
            _make(settings, loading, store, inspector, reporter, join or [])
        else:
            _look_again(store, inspector, reporter, again=True)
            _join(store, join or [], inspector)
        for path in report(store, inspector, real, SHIPPED if critters else None, reporter.counting):
            print(path)


def choices(
    base: Request, methods: list[str] | None, recipes: list[Path] | None, variants: list[Path] | None
) -> tuple[Choice, ...]:
    """What to measure, checked as far as possible without a model (`RequestError`, `RecipeError`)."""
    from ..evaluation.settings import Choice

    if not (methods or recipes or variants):
        methods = ["direct", "scalecrafter"]
    found = [Choice(name, {"method": name}) for name in methods or []]
    found += [Choice(f"recipe-{path.stem}", {"recipe": str(path)}) for path in recipes or []]
    found += [Choice(path.stem, _variant(path)) for path in variants or []]
    for choice in found:
        choice.request(base).resolved_recipe()
    return tuple(found)


def _variant(path: Path) -> dict[str, Any]:
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RequestError(f"cannot read the variant {str(path)!r}: {error}") from None
    wrong = [name for name in OWN_TO_A_PICTURE if name in values]
    if wrong:
        raise RequestError(
            f"the variant {str(path)!r} cannot set {' or '.join(wrong)}: those are the run's own options"
        )
    return values


def _settings(
    base: Request,
    chosen: tuple[Choice, ...],
    sizes: list[tuple[int, int]],
    prompts: Path | None,
    pictures: int,
    native_pictures: int,
    critters: bool,
) -> EvaluationSettings:
    from ..evaluation.prompts import critters_prompts, read_prompts
    from ..evaluation.settings import EvaluationSettings

    if prompts is None and not critters:
        raise RequestError(f"the shipped prompts are for critters: give {base.model!r} its own with --prompts FILE")
    texts = critters_prompts() if prompts is None else read_prompts(prompts)
    return EvaluationSettings(base, tuple(texts), tuple(sizes), chosen, pictures, native_pictures)


def _sizes(model: str, asked: list[tuple[int, int]], loading: dict[str, Any]) -> list[tuple[int, int]]:
    """The sizes to measure at, by default twice the native one (`SizeError` for one that the model cannot make)."""
    facts = facts_of_model(model, loading["config"])
    if facts is None and asked:
        return asked  # checked once the model is loaded
    if facts is not None:
        sizes = facts.sizes
    else:
        from ..models.denoisers import read_model
        from ..models.loading import load_outline

        sizes = read_model(load_outline(model, **loading))
    for width, height in asked:
        sizes.check_size(height=height, width=width)
    return asked or [sizes.default_size]


def _make(
    settings: EvaluationSettings,
    loading: dict[str, Any],
    store: RunFolder,
    inspector: Inspector,
    reporter: EvaluationReporter,
    joined: list[Path],
) -> None:
    from ..evaluation.runs import check, make_pictures, shared_choices, shared_settings

    pipe = reporter.load(settings.base, **loading)
    check(pipe, settings)
    command = shlex.join(["scalecrafter", *sys.argv[1:]])
    store.claim(shared_settings(pipe, settings), shared_choices(settings), command, _machine(pipe))
    _look_again(store, inspector, reporter, again=False)
    _join(store, joined, inspector)
    try:
        make_pictures(pipe, settings, store, inspector, reporter)
    except KeyboardInterrupt:
        reporter.note(
            f"{len(store.own_rows())} pictures are finished and stay in {store.folder}: "
            "run the same command again to resume, or --report-only to report on them"
        )
        raise


def _look_again(store: RunFolder, inspector: Inspector, reporter: EvaluationReporter, again: bool) -> None:
    from ..evaluation.runs import agree_on_inspector

    with reporter.counting("inspecting the pictures again") as progress:
        agree_on_inspector(store, inspector, progress, again)


def _join(store: RunFolder, joined: list[Path], inspector: Inspector) -> None:
    signature = inspector.signature() if joined else {}
    for path in joined:
        store.join(path, signature)


def _machine(pipe: Any) -> str:
    import torch

    if pipe.device.type == "cuda":
        return str(torch.cuda.get_device_name(pipe.device))
    return f"{pipe.device.type}, {platform.machine()}, {torch.get_num_threads()} threads"
