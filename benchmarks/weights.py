"""A folder of made-up encoder weights of the size of all-MiniLM-L6-v2: they mean nothing and cost the same."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

LAYERS, HEADS, SIZE, INNER, POSITIONS = 6, 12, 384, 1536, 512


def write(folder: Path, words: Sequence[str]) -> None:
    """Write ``model.safetensors``, ``vocab.txt`` and ``config.json``; each of the words is one piece."""
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *dict.fromkeys(words)]
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (len(vocabulary), SIZE),
        "embeddings.position_embeddings.weight": (POSITIONS, SIZE),
        "embeddings.token_type_embeddings.weight": (2, SIZE),
        **_norm("embeddings.LayerNorm"),
    }
    for number in range(LAYERS):
        layer = f"encoder.layer.{number}"
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            shapes |= _linear(f"{layer}.attention.{part}", SIZE, SIZE)
        shapes |= _linear(f"{layer}.intermediate.dense", INNER, SIZE) | _linear(f"{layer}.output.dense", SIZE, INNER)
        shapes |= _norm(f"{layer}.attention.output.LayerNorm") | _norm(f"{layer}.output.LayerNorm")
    chance = np.random.default_rng(1)
    head: dict[str, object] = {}
    data: list[bytes] = []
    at = 0
    for name, shape in shapes.items():
        raw = (chance.standard_normal(shape, dtype=np.float32) / 20).astype("<f4").tobytes()
        head[name] = {"dtype": "F32", "shape": [*shape], "data_offsets": [at, at + len(raw)]}
        at += len(raw)
        data.append(raw)
    told = json.dumps(head).encode()
    (folder / "model.safetensors").write_bytes(b"".join([struct.pack("<Q", len(told)), told, *data]))
    (folder / "vocab.txt").write_text("\n".join(vocabulary), "utf-8")
    config = {"num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "layer_norm_eps": 1e-12, "hidden_size": SIZE}
    (folder / "config.json").write_text(json.dumps(config), "utf-8")


def _linear(name: str, to: int, of: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (to, of), f"{name}.bias": (to,)}


def _norm(name: str) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (SIZE,), f"{name}.bias": (SIZE,)}
