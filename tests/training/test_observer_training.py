"""The observer's training: its losses, thresholds and anatomies, and the one command from nothing to a report."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from scalecrafter.evaluation.observer import Mark, Observation, load_observer
from scalecrafter.evaluation.observer_card import Anatomy, mouth_from_eyes
from scalecrafter.evaluation.observer_network import NetworkSettings, ObserverNetwork
from training.critters.observer_augment import degraded, noise, wobbled
from training.critters.observer_batches import Batches, Touched, attribute_loss, heat_loss
from training.critters.observer_data import ATTRIBUTES, ObserverSet, observer_set, rows_of
from training.critters.observer_normalisation import measure, unfold
from training.critters.observer_parts import KINDS, SeenPart, seen_parts
from training.critters.observer_report import (
    View,
    choose_thresholds,
    evaluate,
    eyes_apart_at,
    is_malformed,
    learn_anatomy,
    part_counts,
)
from training.critters.observer_scenes import Sample, sample_of
from training.critters.observer_targets import MOUTH, counts, heat_targets
from training.critters.observer_train import SMOKE, main, run
from training.critters.renderer import render_with_parts
from training.critters.scene import SPECIES, WORLDS, Animal, PlacedAnimal, Scene
from training.critters.species import BUILDS

CPU = torch.device("cpu")
PICTURES = 240


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> ObserverSet:
    """Of the flat world, which is drawn ten times sooner."""
    return observer_set(tmp_path_factory.mktemp("set"), PICTURES, report=lambda _: None, world="flat")


@pytest.fixture(scope="module")
def perfect(data: ObserverSet) -> np.ndarray:
    return perfect_maps(data)


def perfect_maps(data: ObserverSet) -> np.ndarray:
    """What a perfect network would show; parts that are not judged, faintly."""
    maps = []
    for rows in data.marks:
        heat, judged = heat_targets(rows)
        maps.append(heat * 0.8 + (1 - judged) * 0.05)
    return np.stack(maps).astype(np.float32)


def test_the_heat_loss_is_least_for_the_right_maps() -> None:
    target = torch.zeros(1, 2, 8, 8)
    target[0, 0, 3, 4] = 1
    judged = torch.ones_like(target)
    right, missed, extra = (torch.full_like(target, -8.0) for _ in range(3))
    right[0, 0, 3, 4] = 8
    extra[0, 0, 3, 4] = extra[0, 1, 6, 6] = 8
    losses = [float(heat_loss(logits, target, judged)) for logits in (right, missed, extra)]
    assert losses[0] < 1e-3
    assert min(losses[1:]) > 5
    judged[0, 1, 6, 6] = 0
    assert float(heat_loss(extra, target, judged)) < 1e-3


def test_the_attribute_loss_leaves_out_what_nobody_knows() -> None:
    logits = (torch.tensor([[9.0, 0.0], [0.0, 9.0]]), torch.tensor([[0.0, 9.0], [9.0, 0.0]]))
    assert float(attribute_loss(logits, torch.tensor([[0, 1], [1, 0]]))) < 1e-2
    assert float(attribute_loss(logits, torch.tensor([[0, -1], [1, -1]]))) < 1e-2
    assert float(attribute_loss(logits, torch.tensor([[-1, -1], [-1, -1]]))) == 0
    assert float(attribute_loss(logits, torch.tensor([[1, 1], [1, 0]]))) > 4


def test_a_batch_depends_on_its_step_alone(data: ObserverSet) -> None:
    touched = Touched(data.pictures[:8], list(range(8)), True), Touched(data.pictures[:4], [3, 2, 1, 0], False)
    batches = Batches(data, touched, data.attributes(), 6, CPU)
    for one, other in zip(batches.at(3), batches.at(3), strict=True):
        assert torch.equal(one, other)
    pictures, heat, judged, attributes = batches.at(4)
    assert not torch.equal(pictures, batches.at(3)[0])
    assert pictures.shape == (6, 3, 256, 256)
    assert heat.shape == judged.shape == (6, len(KINDS), 64, 64)
    assert attributes.shape == (6, len(ATTRIBUTES))


def test_touched_pictures_keep_their_own_labels_and_parts_only_where_they_still_hold(data: ObserverSet) -> None:
    index = next(k for k, sample in enumerate(data.samples) if sample.lone and not sample.faults)
    for holds in (True, False):
        form = Touched(np.zeros_like(data.pictures[:1]), [index], holds)
        batches = Batches(data, (form, form, form, form), data.attributes(), 6, CPU)  # nothing but touched ones
        pictures, heat, judged, attributes = batches.at(0)
        assert float(pictures.mean()) < -0.5
        assert (heat[:, 0].amax((1, 2)) == 1).all()
        assert bool(judged[:, 1:].any()) == holds
        assert attributes.tolist() == [data.attributes()[index].tolist()] * 6


def numbered(samples: list[Sample], forms: tuple[Touched, ...] = ()) -> Batches:
    """Batches of small black pictures with an animal in each, whose attributes tell which sample each is."""
    pictures = np.zeros((len(samples), 16, 16, 3), np.uint8)
    marks = np.stack([rows_of([SeenPart(0, "animal", 128, 128, 60, 1)])] * len(samples))
    names = np.arange(len(samples))[:, None].repeat(len(ATTRIBUTES), 1)
    return Batches(ObserverSet(pictures, marks, samples), forms, names, 50, CPU)


def test_hard_pictures_are_drawn_three_times_as_often_as_others() -> None:
    samples = [sample_of(seed) for seed in range(200)]
    hard = [
        bool(s.lone and (s.scene.animals[0].height >= 1.425 or {"third ear", "second mouth"} & set(s.faults)))
        for s in samples
    ]
    batches = numbered(samples)
    lots = np.concatenate([batches.at(step)[3][:, 0].numpy() for step in range(24)])
    drawn = lots[lots >= 0]
    share = 3 * sum(hard) / (2 * sum(hard) + len(samples))
    assert share > sum(hard) / len(samples) + 0.15
    assert np.mean([hard[lot] for lot in drawn]) == pytest.approx(share, abs=0.04)
    assert len(set(drawn)) > 190
    easy = numbered([sample for sample, is_hard in zip(samples, hard, strict=True) if not is_hard])
    assert len(set(easy.at(0)[3][:, 0].tolist())) > 30  # where none is hard, all the same


def test_a_few_pictures_are_noise_in_which_there_is_nothing() -> None:
    samples = [sample_of(seed) for seed in range(20)]
    several = [numbered(samples).at(step) for step in range(24)]
    pictures, heat, judged, names = (torch.cat(parts) for parts in zip(*several, strict=True))
    empty = names[:, 0] < 0
    assert float(empty.float().mean()) == pytest.approx(0.02, abs=0.015)
    assert (names[empty] == -1).all()
    assert float(heat[empty].max()) == 0
    assert float(judged[empty].min()) == 1
    assert (heat[~empty, 0].amax((1, 2)) == 1).all()
    assert float(pictures[empty].mean()) > -0.4
    assert float(pictures[~empty].mean()) < -0.8
    form = Touched(np.zeros((20, 16, 16, 3), np.uint8), list(range(20)), True)
    touched = numbered(samples, (form, form, form, form))  # nothing but touched ones
    assert min(int(touched.at(step)[3].min()) for step in range(8)) >= 0


def test_noise_is_fine_or_in_lumps_grey_or_coloured_about_any_colour() -> None:
    def alike(picture: np.ndarray) -> float:
        """How much neighbours are: 0 for fine noise."""
        return float(np.corrcoef(picture[:, 1:, 0].ravel(), picture[:, :-1, 0].ravel())[0, 1])

    pictures = [noise((48, 64, 3), np.random.default_rng(seed)) for seed in range(40)]
    assert {(picture.shape, picture.dtype) for picture in pictures} == {((48, 64, 3), np.dtype(np.uint8))}
    assert np.array_equal(pictures[7], noise((48, 64, 3), np.random.default_rng(7)))
    assert min(picture[:, :, 0].std() for picture in pictures) > 4
    assert 10 < sum(bool((picture == picture[:, :, :1]).all()) for picture in pictures) < 30
    assert 10 < sum(alike(picture) > 0.3 for picture in pictures) < 30
    assert sum(abs(alike(picture)) < 0.1 for picture in pictures) > 10
    assert np.ptp([picture.mean() for picture in pictures]) > 60


def test_degrading_keeps_the_size_and_mostly_changes_the_picture(data: ObserverSet) -> None:
    picture = np.asarray(data.pictures[0])
    changed = 0
    for seed in range(40):
        out = degraded(picture, np.random.default_rng(seed))
        assert out.shape == picture.shape
        assert out.dtype == np.uint8
        assert np.array_equal(out, degraded(picture, np.random.default_rng(seed)))
        changed += not np.array_equal(out, picture)
        assert np.abs(out.astype(float) - picture).mean() < 45
    assert 24 < changed < 40


def test_wobbling_moves_some_pictures_by_a_few_pixels() -> None:
    ramp = torch.linspace(0, 255, 256).expand(20, 3, 256, 256).contiguous()
    moved = (wobbled(ramp, np.random.default_rng(0)) - ramp).abs().amax((1, 2, 3))
    assert 3 <= int((moved > 0).sum()) <= 14
    assert 1 < float(moved.max()) < 9


def test_thresholds_lie_between_real_peaks_and_false_ones(data: ObserverSet, perfect: np.ndarray) -> None:
    noisy = perfect.copy()
    noisy[:, :, 2, 2] = np.maximum(noisy[:, :, 2, 2], 0.3)  # a false peak in every map
    for threshold in choose_thresholds(noisy, data.marks).values():
        assert 0.3 < threshold <= 0.8


def marks_alone(seeds: range) -> ObserverSet:
    """The whole lone animals among the detailed world's samples of these seeds, as their labels without pictures."""
    samples = [s for s in (sample_of(seed, "detailed") for seed in seeds) if s.lone and not s.faults]
    marks = np.stack([rows_of(seen_parts(s.scene, s.width, s.height, s.window)) for s in samples])
    return ObserverSet(np.zeros((len(samples), 1, 1, 3), np.uint8), marks, samples)


@pytest.mark.parametrize("world", WORLDS)
def test_the_anatomy_of_every_species_is_learnt_from_renders(data: ObserverSet, world: str) -> None:
    if world == "detailed":
        data = marks_alone(range(900))
    perfect = perfect_maps(data)
    table = part_counts(data)
    assert any(least < most for least, most in (counts(rows)[MOUTH] for rows in data.marks))  # which teaches nothing
    assert {len(views) for views in table.values()} == {1 if world == "flat" else 3}
    for species in SPECIES:
        assert table[species][0]["eye"] == (2, 2)
        assert table[species][0]["mouth"] == (1, 1)
        assert table[species][0]["ear"] == ((0, 0) if species in ("penguin", "frog") else (2, 2))
        assert table[species][0]["tail"][1] == (0 if species == "frog" else 1)
    assert table["owl"][0]["tail"][0] == 0  # it often hides behind the body
    assert table["cat"][0]["tail"] == (1, 1)
    anatomy = learn_anatomy(table, perfect, data, dict.fromkeys(KINDS, 0.5))
    for species in SPECIES:
        scene = Scene((PlacedAnimal(Animal(species, "red"), 0.5, 0.9, 0.65),), "meadow", "day")
        drawn = [Mark(p.kind, p.x, p.y, 1.0) for p in render_with_parts(scene, 256, 256)[1]]
        place = mouth_from_eyes(tuple(drawn))
        assert place is not None
        low, high = anatomy[species].mouth_across
        assert low < place[1] < high < low + 1
        assert place[0] < anatomy[species].mouth_along[1] < 0.6


def test_of_animals_that_the_frame_cuts_only_what_is_in_the_frame_is_asked_for() -> None:
    samples, marks = [], []
    for number, species in enumerate(SPECIES):
        for height in (0.6, 0.7, 1.1, 1.2, 1.9, 2.1):
            head = -BUILDS[species].head_y * height
            placed = PlacedAnimal(Animal(species, "red"), 0.5, 0.5 + head if height > 1 else 0.95, height)
            scene = Scene((placed,), "meadow", "day", number, "detailed")
            samples.append(Sample(scene, 256, 256, (0, 0, 256, 256), (), number))
            marks.append(rows_of(seen_parts(scene, 256, 256)))
    data = ObserverSet(np.zeros((len(samples), 256, 256, 3), np.uint8), np.stack(marks), samples)
    table = part_counts(data)
    assert table["cat"][0] == {"eye": (2, 2), "ear": (2, 2), "mouth": (1, 1), "tail": (1, 1)}
    assert table["cat"][2]["tail"] == (0, 0)
    assert all(view["eye"] == (2, 2) and view["mouth"] == (1, 1) for views in table.values() for view in views)
    maps = np.stack([heat_targets(rows)[0] for rows in marks])
    anatomy = learn_anatomy(table, maps, data, dict.fromkeys(KINDS, 0.5))["cat"]
    whole, _, close = (anatomy.parts_at(eyes_apart_at("cat", height)) for height in (0.65, 1.1, 2.0))
    assert (whole["tail"], close["tail"]) == ((1, 1), (0, 0))
    tailless = replace(samples[0], faults=("no tail",))
    without = marks[0][marks[0][:, 0] != KINDS.index("tail")]
    assert is_malformed(tailless, without, anatomy)
    assert is_malformed(replace(samples[4], faults=("no tail",)), marks[4], anatomy) is None  # nobody could tell


def test_a_set_without_some_species_is_refused_as_too_small(data: ObserverSet) -> None:
    few = ObserverSet(data.pictures[:5], data.marks[:5], data.samples[:5])
    with pytest.raises(ValueError, match="draw more"):
        part_counts(few)


def test_malformed_is_what_shows_to_be(data: ObserverSet) -> None:
    table = part_counts(data)
    verdicts: Counter[tuple[bool, bool | None]] = Counter()
    for sample, rows in zip(data.samples, data.marks, strict=True):
        if sample.lone:
            anatomy = Anatomy(parts=table[sample.lone.species][0], mouth_along=(0, 1), mouth_across=(0, 2))
            verdicts[bool(sample.faults), is_malformed(sample, rows, anatomy)] += 1
    assert verdicts[True, False] == verdicts[False, True] == 0
    assert verdicts[True, True] > 30
    assert verdicts[False, False] > 40
    assert verdicts[True, True] > 4 * verdicts[True, None]


class TruthfulObserver:
    """Answers from the labels, and is wrong in one picture in four."""

    def __init__(self, data: ObserverSet, table: dict[str, list[View]]) -> None:
        anatomy = {s: Anatomy(parts=table[s][0], mouth_along=(0, 1), mouth_across=(0, 2)) for s in SPECIES}
        self.card = type("Card", (), {"anatomy": anatomy})
        self.data, self.at = data, 0

    def observe(self, pictures: list[np.ndarray]) -> list[Observation]:
        out = []
        for _ in pictures:
            sample, rows, k = self.data.samples[self.at], self.data.marks[self.at], self.at
            self.at += 1
            found = dict(zip(KINDS, counts(rows)[:, 0].tolist(), strict=True))
            lone = sample.lone
            animals = found.pop("animal") + 20 * (k % 4 == 0)
            named = (lone.species, lone.colour, lone.accessory) if lone else ("cat", "red", "none")
            out.append(Observation(animals, found, *named, np.zeros(4, np.float32), (), well_formed=not sample.faults))
        return out


def test_the_report_counts_right_answers(data: ObserverSet) -> None:
    rates = evaluate(TruthfulObserver(data, part_counts(data)), data, np.asarray(data.pictures))  # type: ignore[arg-type]
    assert rates["animals"]["of"] == PICTURES
    assert rates["animals"]["right"] == PICTURES * 3 // 4
    for name in ("eyes", "ears", "species", "whole animals found well-formed", "malformed animals found out"):
        assert rates[name]["rate"] == 1
    assert {f"animals, {n} there" for n in range(10)} <= set(rates)


@pytest.fixture(scope="module")
def smoke_observer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a whole run in seconds, with what it printed in `printed.txt`. Who writes into it takes a copy."""
    out, printed = tmp_path_factory.mktemp("observer") / "run", io.StringIO()
    with contextlib.redirect_stdout(printed):
        main(["--smoke", "--world", "flat", "--out", str(out), "--precision", "fp32", "--workers", "1"])
    (out / "printed.txt").write_text(printed.getvalue())
    return out


def test_one_command_draws_trains_exports_and_reports(smoke_observer: Path) -> None:
    assert "whole animals found well-formed" in (smoke_observer / "printed.txt").read_text()
    report = json.loads((smoke_observer / "report.json").read_text())
    assert set(report["rates"]) == {"as rendered", "degraded", "through the VAE", "redrawn by the model"}
    observer = load_observer(smoke_observer / "observer")
    assert set(observer.card.anatomy) == set(SPECIES)
    assert "| whole animals found well-formed |" in (smoke_observer / "observer" / "README.md").read_text()
    size = sum(path.stat().st_size for path in (smoke_observer / "observer").iterdir())
    assert size < 100_000
    seen = observer.observe([np.zeros((300, 500, 3), np.uint8)])
    assert seen[0].features.shape == (2 * SMOKE.features,)


def test_a_second_run_draws_nothing_anew_and_goes_on_from_the_checkpoint(smoke_observer: Path, tmp_path: Path) -> None:
    shutil.copytree(smoke_observer, tmp_path, dirs_exist_ok=True)
    (tmp_path / "plan.json").write_text('{"steps": 3}')
    run(replace(SMOKE, world="flat"), tmp_path, tmp_path / "observer", CPU, torch.float32, workers=1)
    log = (tmp_path / "log.txt").read_text()
    assert log.count("drew") == 2
    assert "observer.pt at step 2" in log


def test_an_observer_to_go_on_from_answers_as_before_once_it_has_normalisations_again() -> None:
    shape = NetworkSettings(2, (3,), (8, 16, 16, 16), 8)
    torch.manual_seed(3)
    stored = ObserverNetwork(shape)
    pictures = [torch.rand(4, 3, 64, 64) * 2 - 1 for _ in range(5)]
    measure(stored, pictures)
    stored.fuse()
    fresh = ObserverNetwork(shape)
    unfold(fresh, stored, pictures)
    with torch.no_grad():
        want, seen, training = stored(pictures[0]), fresh.eval()(pictures[0]), fresh.train()(torch.cat(pictures))
        kept = stored(torch.cat(pictures))
    torch.testing.assert_close(seen.heat, want.heat, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(seen.attributes, want.attributes, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(training.heat, kept.heat, atol=1e-3, rtol=1e-3)
    assert not torch.allclose(ObserverNetwork(shape).eval()(pictures[0]).heat, want.heat, atol=1e-2)


def test_a_training_goes_on_from_an_observer_and_its_card_says_so(smoke_observer: Path, tmp_path: Path) -> None:
    shutil.copytree(smoke_observer, tmp_path, dirs_exist_ok=True)
    first, second = tmp_path / "observer", tmp_path / "second"
    for name in ("observer.pt", "plan.json"):
        (tmp_path / name).unlink()
    still = replace(SMOKE, world="flat", learning_rate=0.0)
    run(still, tmp_path, second, CPU, torch.float32, workers=1, warm_start=first)
    one, other = load_observer(first), load_observer(second)
    now = other.network.state_dict()
    for name, value in one.network.state_dict().items():
        if name.endswith("convolution.weight"):  # but for the scales of a few pictures' statistics
            alike = torch.nn.functional.cosine_similarity(value.flatten(1), now[name].flatten(1))
            assert alike.min() > 0.999, name
    assert other.card.training["earlier steps"] == SMOKE.steps
    assert "after 2 of an earlier observer" in (second / "README.md").read_text()


def test_the_shipped_size_of_the_network_is_small() -> None:
    from training.critters.observer_train import Settings

    settings = Settings()
    classes = tuple(len(words) for words in ATTRIBUTES.values())
    network = ObserverNetwork(NetworkSettings(len(KINDS), classes, settings.widths, settings.features))
    assert sum(value.numel() for value in network.parameters()) < 2_500_000
