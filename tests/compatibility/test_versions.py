"""The embedded model opens with transformers 4 and 5, and is the same in both."""

from __future__ import annotations

import json

import torch
from safetensors import safe_open
from transformers import CLIPTextModel, CLIPTokenizer

from scalecrafter.loading import locate

FOLDER = locate("critters")[1]


def test_no_weight_of_the_text_encoder_is_left_to_chance() -> None:
    _, told = CLIPTextModel.from_pretrained(FOLDER, subfolder="text_encoder", output_loading_info=True)
    assert (set(told["missing_keys"]), set(told["unexpected_keys"])) == (set(), set())
    with safe_open(f"{FOLDER}/text_encoder/model.safetensors", "pt") as file:
        assert all(name.startswith("text_model.") for name in file.keys())  # noqa: SIM118


def test_both_forms_of_the_tokenizer_hold_the_same_vocabulary() -> None:
    with open(f"{FOLDER}/tokenizer/tokenizer.json", encoding="utf-8") as file:
        model = json.load(file)["model"]
    with open(f"{FOLDER}/tokenizer/vocab.json", encoding="utf-8") as file:
        assert json.load(file) == model["vocab"]
    with open(f"{FOLDER}/tokenizer/merges.txt", encoding="utf-8") as file:
        assert [line.split() for line in file.read().splitlines()[1:]] == [list(pair) for pair in model["merges"]]
    tokenizer = CLIPTokenizer.from_pretrained(FOLDER, subfolder="tokenizer")
    tokens = tokenizer("a blue fox", padding="max_length", max_length=32)["input_ids"]
    assert tokens == [745, 320, 698, 679, *[746] * 28]


def test_the_text_encoder_says_the_same_in_every_version() -> None:
    encoder = CLIPTextModel.from_pretrained(FOLDER, subfolder="text_encoder").float()
    with torch.no_grad():
        states = encoder(torch.tensor([[745, 320, 698, 679, 746]]))[0]
    torch.testing.assert_close(states[0, 0, :4], torch.tensor([-0.2115, 0.2607, 0.0776, -0.2338]), atol=2e-3, rtol=0)
