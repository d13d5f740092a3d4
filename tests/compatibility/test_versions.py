"""The embedded model opens with transformers 4 and 5, and is the same in both."""

from __future__ import annotations

import json

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import CLIPTextModel, CLIPTokenizer

from scalecrafter.models.loading import locate

FOLDER = locate("critters")[1]
PROMPT = ["<|startoftext|>", "a</w>", "blue</w>", "fox</w>", "<|endoftext|>"]
"""The tokens of "a blue fox"; what is padded is the last one again."""


def numbers(tokens: list[str]) -> list[int]:
    """Of tokens, as the vocabulary on disk has them."""
    with open(f"{FOLDER}/tokenizer/vocab.json", encoding="utf-8") as file:
        vocabulary = json.load(file)
    return [vocabulary[token] for token in tokens]


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
    assert tokens == numbers([*PROMPT, *PROMPT[-1:] * 27])
    assert len(set(tokens)) == 5


def test_the_text_encoder_says_what_its_file_holds_in_every_version() -> None:
    tokens = torch.tensor(numbers(PROMPT))
    encoder = CLIPTextModel.from_pretrained(FOLDER, subfolder="text_encoder").float()
    with torch.no_grad():
        said = encoder(tokens[None])[0][0]
    torch.testing.assert_close(said, from_the_file(tokens), atol=1e-4, rtol=1e-4)


def from_the_file(tokens: torch.Tensor) -> torch.Tensor:
    """CLIP's text transformer (Radford et al. 2021), written down plainly, with the weights as they lie on disk."""
    weights = {name: value.float() for name, value in load_file(f"{FOLDER}/text_encoder/model.safetensors").items()}
    with open(f"{FOLDER}/text_encoder/config.json", encoding="utf-8") as file:
        config = json.load(file)
    assert config["hidden_act"] == "quick_gelu"
    heads, width = config["num_attention_heads"], config["hidden_size"]

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        return x @ weights[f"text_model.{name}.weight"].T + weights[f"text_model.{name}.bias"]

    def normed(x: torch.Tensor, name: str) -> torch.Tensor:
        scale, shift = weights[f"text_model.{name}.weight"], weights[f"text_model.{name}.bias"]
        return (x - x.mean(-1, keepdim=True)) / (x.var(-1, correction=0, keepdim=True) + 1e-5).sqrt() * scale + shift

    x = weights["text_model.embeddings.token_embedding.weight"][tokens]
    x = x + weights["text_model.embeddings.position_embedding.weight"][: len(tokens)]
    later = torch.ones(len(tokens), len(tokens)).triu(1).bool()
    for k in range(config["num_hidden_layers"]):
        layer = f"encoder.layers.{k}"
        h = normed(x, f"{layer}.layer_norm1")
        q, key, v = (
            linear(h, f"{layer}.self_attn.{part}_proj").view(len(tokens), heads, -1).transpose(0, 1) for part in "qkv"
        )
        scores = (q @ key.transpose(1, 2) * (width // heads) ** -0.5).masked_fill(later, -torch.inf)
        mixed = (scores.softmax(-1) @ v).transpose(0, 1).reshape(len(tokens), width)
        x = x + linear(mixed, f"{layer}.self_attn.out_proj")
        h = linear(normed(x, f"{layer}.layer_norm2"), f"{layer}.mlp.fc1")
        x = x + linear(h * (1.702 * h).sigmoid(), f"{layer}.mlp.fc2")
    return normed(x, "final_layer_norm")
