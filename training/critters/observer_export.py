"""From a trained observer to the folder that the package carries: weights in half precision, what they mean, a card."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from scalecrafter.evaluation.observer import CARD, WEIGHTS
from scalecrafter.evaluation.observer_card import Anatomy, ObserverCard
from scalecrafter.evaluation.observer_network import ObserverNetwork

from .observer_data import ATTRIBUTES
from .observer_parts import KINDS


def export(
    network: ObserverNetwork,
    widths: tuple[int, int, int, int],
    features: int,
    thresholds: dict[str, float],
    anatomy: dict[str, Anatomy],
    training: Mapping[str, float | int | str],
    folder: Path,
) -> int:
    """Write weights and card of a fused network and return the bytes of the weights; other files stay."""
    card = ObserverCard(
        kinds=KINDS,
        vocabulary=ATTRIBUTES,
        widths=widths,
        features=features,
        thresholds=thresholds,
        anatomy=anatomy,
        training=dict(training),
    )
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: value.half().contiguous().cpu() for name, value in network.state_dict().items()}
    if not all(torch.isfinite(value).all() for value in weights.values()):
        raise ValueError("a weight is too large for half precision; train again with a lower learning rate")
    temporary = folder / (WEIGHTS + ".part")
    save_file(weights, temporary)
    temporary.chmod(0o644)
    os.replace(temporary, folder / WEIGHTS)
    temporary = folder / (CARD + ".part")
    temporary.write_text(card.model_dump_json(indent=2) + "\n")
    os.replace(temporary, folder / CARD)
    return (folder / WEIGHTS).stat().st_size


README = """\
# The observer

Looks at a picture of critters and says how many animals and parts of animals (eyes, ears, mouths or beaks, tails) are
in it, of which species and colour the animal is and what it wears. `scalecrafter.evaluation.observer.load_observer()`
opens it; its questions are *is there exactly one animal?* and *has it exactly its parts?*

## What it is

A convolutional pyramid with {parameters:.1f} M parameters (float16 safetensors, {megabytes:.1f} MB). It sees the
picture with its shorter side resized (antialiased) to 256 pixels and draws a heat map for each kind at a quarter of
that; a part is a local maximum above the kind's threshold. An animal must be at least 32 pixels high there, and 64 for
its parts to be counted.

An animal is well-formed when there is exactly one, each kind of part is there as often as whole animals of its
species show it, and its mouth is where it belongs from its eyes. How often a part shows (an owl's tail may hide behind
it) and where the mouth belongs was learnt from renders; `observer.json` holds the ranges.

## What it was trained on

{pictures} renders of our own (`training/critters/observer_*.py`) of none to nine animals from an eighth to the whole of
the picture{close_ups}, one lone animal in two malformed on purpose: eyes, ears, mouths,
tails or heads too many or too few, or a melted face. With noise, blur, JPEG, other colours and wavering outlines; a
quarter came through the VAE of critters with noise on the latents, another, of whole animals whose parts were then not
judged, was redrawn by critters from a little noise ({touched} pictures of either kind). Close-ups, third ears and
second mouths came three times as often as their share, and two pictures in a hundred were noise.
{steps} steps of {batch} pictures{earlier}.

## How often it is right

On {held_out} held-out renders (another {validation} chose the thresholds); "degraded" is the same with the faults
above. A count is right when it is exact; parts that hardly show may be counted or not, and parts of animals lower than
64 pixels are not judged, nor mouths of which less than half shows, or of a radius below five pixels. Two heads on one
body may be called one animal or two.

{table}

Thresholds: {thresholds}.

## Limits

It knows the animals of critters and nothing else. Pictures that a model made from nothing were not trained on: their
faults are other than the ones drawn on purpose and those of redrawn pictures. Two animals that overlap by much may
count as one.
"""


def write_readme(folder: Path, settings: Mapping[str, Any], thresholds: Mapping[str, float], table: list[str]) -> None:
    """The card of the exported observer, with the figures of its own training."""
    weights = load_file(folder / WEIGHTS)
    earlier = settings.get("earlier steps")
    detailed = settings.get("world") == "detailed"
    text = README.format(
        **settings,
        close_ups=", lone ones up to close-ups that the frame cuts (only what is in it is marked)" if detailed else "",
        earlier=f", after {earlier} of an earlier observer with other labels and pictures" if earlier else "",
        parameters=sum(value.numel() for value in weights.values()) / 1e6,
        megabytes=(folder / WEIGHTS).stat().st_size / 1e6,
        table="\n".join(table),
        thresholds=", ".join(f"{kind} {value}" for kind, value in thresholds.items()),
    )
    (folder / "README.md").write_text(text)
