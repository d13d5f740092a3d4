"""The one command that makes the observer: `python -m training.critters.observer_train`.

Draws the pictures, lets the model soften and redraw some of them, trains, chooses thresholds, exports, and reports on
held-out pictures.  Every stage is skipped when its result is there already; the training goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from numpy.typing import NDArray
from torch import Tensor, nn

from scalecrafter.evaluation.observer import load_observer
from scalecrafter.evaluation.observer_network import NetworkSettings, ObserverNetwork, Seen

from .autoencoder import to_unit
from .captions import caption
from .data import HELD_OUT_SEED
from .loop import Schedule, autocast, pick_device, pick_precision, train
from .observer_augment import degraded, redrawn, softened
from .observer_batches import Batches, Touched, attribute_loss, heat_loss
from .observer_data import ATTRIBUTES, ObserverSet, observer_set
from .observer_export import export, write_readme
from .observer_normalisation import measure, unfold
from .observer_parts import KINDS
from .observer_report import choose_thresholds, evaluate, learn_anatomy, part_counts, table_of
from .observer_scenes import Sample
from .scene import FRAMING_HEIGHTS, SHIPPED_WORLD, WORLDS

MODEL = Path(__file__).parents[2] / "src" / "scalecrafter" / "models" / "critters"


@dataclass(frozen=True)
class Settings:
    world: str = SHIPPED_WORLD
    pictures: int = 12000
    validation: int = 400
    held_out: int = 800
    touched: int = 2000
    """So many of the training pictures (and a tenth as many held-out ones) also exist as the VAE gives them back, and
    as the model redraws them."""
    widths: tuple[int, int, int, int] = (32, 64, 128, 192)
    features: int = 96
    batch: int = 16
    steps: int = 8000
    learning_rate: float = 2e-3
    attribute_weight: float = 0.3
    """Of their losses' sum, beside the heat maps' loss."""
    normalisation_batches: int = 30


SMOKE = Settings(
    pictures=150, validation=60, held_out=60, touched=2, widths=(8, 8, 8, 8), features=8, batch=2, steps=2,
    normalisation_batches=1,
)  # fmt: skip
"""A run of seconds through every stage; its observer is blind."""


def train_network(
    settings: Settings,
    batches: Batches,
    out: Path,
    device: torch.device,
    dtype: torch.dtype,
    report: Callable[[str], None],
    minutes: float | None = None,
    compiled: bool = False,
    checkpoint_every: int = 250,
    begin_from: ObserverNetwork | None = None,
) -> tuple[ObserverNetwork, int]:
    """The trained network (its moving average, normalisations measured anew and folded in) and its number of steps."""

    def seen_in(first: int) -> Iterator[Tensor]:
        return (batches.at(first + step)[0] for step in range(settings.normalisation_batches))

    torch.manual_seed(0)
    shape = NetworkSettings(
        len(KINDS), tuple(len(words) for words in ATTRIBUTES.values()), settings.widths, settings.features
    )
    network = ObserverNetwork(shape).to(device)
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if begin_from is not None:
        unfold(network, begin_from.to(device), seen_in(2_000_000))
    if compiled:
        network.compile(dynamic=False)
    every = 50
    sums = np.zeros(2)

    def step_loss(step: int) -> Tensor:
        pictures, heat, judged, attributes = batches.at(step)
        seen: Seen = network(pictures)
        heats, names = heat_loss(seen.heat, heat, judged), attribute_loss(seen.attributes, attributes)
        sums[:] += heats.item(), names.item()
        if (step + 1) % every == 0:
            report(f"observer step {step + 1}: heat maps {sums[0] / every:.3f}, attributes {sums[1] / every:.3f}")
            sums[:] = 0
        return heats + settings.attribute_weight * names

    steps = _planned_steps(settings, out / "plan.json", minutes, lambda k: _timed(step_loss, network, k, device, dtype))
    report(f"training for {steps} steps of {settings.batch} pictures")
    schedule = Schedule(steps, settings.learning_rate, average=0.998, checkpoint_every=min(checkpoint_every, steps))
    average = train(network, step_loss, schedule, out / "observer.pt", device, dtype, report)
    assert isinstance(average, ObserverNetwork)
    with autocast(device, dtype):
        measure(average, seen_in(1_000_000))
    return average.fuse(), steps


def _timed(
    step_loss: Callable[[int], Tensor], network: nn.Module, step: int, device: torch.device, dtype: torch.dtype
) -> float:
    start = time.perf_counter()
    with autocast(device, dtype):
        loss = step_loss(step)
    loss.backward()  # type: ignore[no-untyped-call]
    network.zero_grad(set_to_none=True)
    return time.perf_counter() - start


def _planned_steps(settings: Settings, path: Path, minutes: float | None, timed: Callable[[int], float]) -> int:
    """The steps that fit into the minutes, measured once and kept, so that a resumed training keeps its schedule."""
    if path.exists():
        return int(json.loads(path.read_text())["steps"])
    steps = settings.steps
    if minutes is not None:
        seconds = [timed(k) for k in range(6)][2:]  # the first ones compile and warm up
        steps = max(int(60 * minutes / float(np.median(seconds))), 1)
    path.write_text(json.dumps({"steps": steps}))
    return steps


@torch.no_grad()
def heat_maps(network: ObserverNetwork, pictures: NDArray[np.uint8], device: torch.device) -> NDArray[np.float32]:
    """`(count, kinds, 64, 64)` in 0…1."""
    network.eval()
    blocks = [
        network(to_unit(pictures[start : start + 16], device)).heat.float().sigmoid().cpu().numpy()
        for start in range(0, len(pictures), 16)
    ]
    return np.concatenate(blocks)


def run(
    settings: Settings,
    out: Path,
    export_to: Path,
    device: torch.device,
    dtype: torch.dtype,
    model: Path = MODEL,
    minutes: float | None = None,
    compiled: bool = False,
    workers: int = 2,
    warm_start: Path | None = None,
) -> dict[str, object]:
    """All stages; returns the report, which is also at `out/report.json`.

    With `warm_start`, the folder of an observer of the same shape, the training goes on from that one.
    """
    out.mkdir(parents=True, exist_ok=True)

    def report(line: str) -> None:
        stamped = f"{time.strftime('%H:%M:%S')} {line}"
        print(stamped, flush=True)
        with (out / "log.txt").open("a") as log:
            log.write(stamped + "\n")

    data = observer_set(out / "training", settings.pictures, 0, workers, report, settings.world)
    total = settings.validation + settings.held_out
    kept = observer_set(out / "held_out", total, HELD_OUT_SEED, workers, report, settings.world)
    cut = settings.validation
    validation = ObserverSet(kept.pictures[:cut], kept.marks[:cut], kept.samples[:cut])
    held_out = ObserverSet(kept.pictures[cut:], kept.marks[cut:], kept.samples[cut:])

    tenth = max(settings.touched // 10, 2)
    pipe = StableDiffusionPipeline.from_pretrained(model, torch_dtype=torch.float32).to(device)

    def touch(name: str, whole: ObserverSet, count: int) -> tuple[Touched, Touched]:
        soft = softened(out / f"softened-{name}.npy", whole.pictures, pipe.vae, count, device, dtype, report)
        rows = [k for k, sample in enumerate(whole.samples) if _is_usual(sample)][:count]
        known, captions = whole.pictures[rows], [_caption(whole.samples[k]) for k in rows]
        again = redrawn(out / f"redrawn-{name}.npy", known, captions, pipe, len(rows), device, dtype, report)
        return Touched(soft, list(range(len(soft))), True), Touched(again, rows, False)

    touched = touch("training", data, settings.touched)
    soft_kept, redrawn_kept = touch("held-out", held_out, tenth)

    batches = Batches(data, touched, data.attributes(), settings.batch, device)
    start = time.perf_counter()
    earlier = load_observer(warm_start) if warm_start else None
    network, steps = train_network(
        settings, batches, out, device, dtype, report, minutes, compiled, begin_from=earlier and earlier.network
    )
    seconds = time.perf_counter() - start

    report("choosing thresholds on validation pictures, half of them degraded")
    mixed = np.stack([_degraded(p, k) if k % 2 else np.asarray(p) for k, p in enumerate(validation.pictures)])
    heat = heat_maps(network, mixed, device)
    thresholds = choose_thresholds(heat, validation.marks)
    anatomy = learn_anatomy(part_counts(data), heat, validation, thresholds)
    history = {"pictures": settings.pictures, "steps": steps, "batch": settings.batch}
    if earlier is not None:
        history["earlier steps"] = sum(int(earlier.card.training.get(key, 0)) for key in ("steps", "earlier steps"))
    export(network, settings.widths, settings.features, thresholds, anatomy, history, export_to)

    report("looking at held-out pictures")
    observer = load_observer(export_to)
    shown = {
        "as rendered": (held_out, np.asarray(held_out.pictures)),
        "degraded": (held_out, np.stack([_degraded(p, k) for k, p in enumerate(held_out.pictures)])),
        "through the VAE": (_rows_of(held_out, soft_kept), soft_kept.pictures),
        "redrawn by the model": (_rows_of(held_out, redrawn_kept), redrawn_kept.pictures),
    }
    rates = {name: evaluate(observer, chosen, pictures) for name, (chosen, pictures) in shown.items()}
    again = rates["redrawn by the model"]
    rates["redrawn by the model"] = {name: again[name] for name in ("animals", *NAMED) if name in again}
    result: dict[str, object] = {
        "rates": rates,
        "thresholds": thresholds,
        "settings": asdict(replace(settings, steps=steps)),
        "seconds of this run": round(seconds),
    }
    (out / "report.json").write_text(json.dumps(result, indent=2))
    table = table_of(rates)
    write_readme(export_to, asdict(settings) | history, thresholds, table)
    for line in table:
        report(line)
    return result


USUAL = {"flat": 0.45, "detailed": FRAMING_HEIGHTS["far"][0]}
"""The least height, as a share of the picture's, of the animals that critters of a world draws."""
NAMED = ("species", "colour", "accessory")


def _is_usual(sample: Sample) -> bool:
    """Whether critters could have drawn it: one whole animal, large enough."""
    return sample.lone is not None and not sample.faults and sample.scene.animals[0].height >= USUAL[sample.scene.world]


def _caption(sample: Sample) -> str:
    return caption(sample.scene, np.random.default_rng((sample.seed, 12)))


def _rows_of(whole: ObserverSet, form: Touched) -> ObserverSet:
    return ObserverSet(whole.pictures[form.rows], whole.marks[form.rows], [whole.samples[k] for k in form.rows])


def _degraded(picture: NDArray[np.uint8], index: int) -> NDArray[np.uint8]:
    return degraded(np.asarray(picture), np.random.default_rng((index, 13)))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/observer"), help="pictures, checkpoints, log and report")
    parser.add_argument("--export-to", type=Path, help="where weights and card go (default: OUT/observer)")
    parser.add_argument("--model", type=Path, default=MODEL, help="the model whose faults are to be learnt")
    parser.add_argument("--warm-start", type=Path, help="the folder of an observer to go on from")
    parser.add_argument("--world", default=SHIPPED_WORLD, choices=WORLDS, help="which scenes (default: %(default)s)")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto", choices=["auto", "fp32", "bf16"])
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument("--workers", type=int, default=2, help="processes that draw pictures")
    parser.add_argument("--pictures", type=int)
    parser.add_argument("--touched", type=int, help="pictures that the model also softens and redraws")
    parser.add_argument("--learning-rate", type=float)
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--steps", type=int)
    length.add_argument("--minutes", type=float, help="of training; the steps that fit are measured at the start")
    parser.add_argument("--compile", action="store_true", help="needs a C++ compiler; steps twice as fast on a CPU")
    parser.add_argument("--smoke", action="store_true", help="seconds through every stage; the observer is blind")
    options = parser.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    settings = replace(SMOKE if options.smoke else Settings(), world=options.world)
    for name in ("pictures", "touched", "steps", "learning_rate"):
        if getattr(options, name):
            settings = replace(settings, **{name: getattr(options, name)})
    device = pick_device(options.device)
    run(
        settings,
        options.out,
        options.export_to or options.out / "observer",
        device,
        pick_precision(device, options.precision),
        options.model,
        options.minutes,
        options.compile,
        options.workers,
        options.warm_start,
    )


if __name__ == "__main__":
    main()
