"""A CLIP tokenizer of the captions' vocabulary.

The same algorithm as CLIP's (lower case, byte-level pieces, `</w>` at the end of a word), so any text can be
tokenized; words of the captions are single tokens, all other words fall into pieces.
"""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer

MAX_LENGTH = 32


def build_tokenizer(words: list[str], folder: Path) -> CLIPTokenizer:
    """Write a tokenizer to `folder` in which each of `words` is one token."""
    words = sorted(set(words))
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    bpe.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    bpe.train_from_iterator(
        words,
        trainers.BpeTrainer(
            vocab_size=50_000,
            min_frequency=1,
            end_of_word_suffix="</w>",
            initial_alphabet=alphabet,
            show_progress=False,
        ),
    )
    merges = [tuple(pair) for pair in json.loads(bpe.to_str())["model"]["merges"]]
    tokens = alphabet + [character + "</w>" for character in alphabet] + ["".join(pair) for pair in merges]
    tokens = [*dict.fromkeys(tokens), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = CLIPTokenizer(
        vocab={token: index for index, token in enumerate(tokens)}, merges=merges, model_max_length=MAX_LENGTH
    )
    tokenizer.save_pretrained(folder)
    broken = [word for word in words if len(tokenizer(word)["input_ids"]) != 3]
    if broken:
        raise RuntimeError(f"these words of the vocabulary are not single tokens: {broken}")
    return tokenizer
