"""Reads the weights of a sentence encoder out of a folder, as Sentence Transformers writes it: ``model.safetensors``,
``vocab.txt`` and ``config.json``. Needs NumPy.

Source: the safetensors format.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, cast

from blackboard.errors import BadInput

_KINDS = {"F32": ("<f4", 4), "F16": ("<f2", 2)}
_MAPS = (
    *(f"attention.self.{part}" for part in ("query", "key", "value")),
    *(f"attention.output.{part}" for part in ("dense", "LayerNorm")),
    *("intermediate.dense", "output.dense", "output.LayerNorm"),
)


@dataclass(frozen=True)
class Weights:
    """What an encoder of the BERT family is made of."""

    tensors: Mapping[str, Any]
    """NumPy arrays of 32 bits by name; most of them look at the bytes of the file, which they keep alive together."""
    layers: int
    heads: int
    epsilon: float
    dimensions: int
    pieces: Mapping[str, int]
    """The number of each word piece."""
    sha256: str
    """Of the file with the tensors, in hex."""


def read(folder: Path | str, sha256: str | None = None) -> Weights:
    """The weights in a folder.

    Args:
        folder: see this module.
        sha256: what the weights must hash to, in hex. Default: not checked.

    Raises:
        BadInput: NumPy is not installed, a file is missing or unreadable, or the weights are others than asked for.
    """
    try:
        np: Any = import_module("numpy")
    except ImportError:
        raise BadInput("encoder", str(folder), "Install NumPy to run weights, or give another encoder.") from None
    path = Path(folder)
    try:
        raw = (path / "model.safetensors").read_bytes()
        words = (path / "vocab.txt").read_text("utf-8").splitlines()
        config = json.loads((path / "config.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput("encoder", str(folder), f"Give a folder with the encoder's files; {error}.") from None
    found = hashlib.sha256(raw).hexdigest()
    if sha256 is not None and found != sha256.lower():
        raise BadInput("encoder", found, f"These are not the weights asked for, {sha256}; get them again.")
    try:
        there, layers = _tensors(np, raw), int(config["num_hidden_layers"])
        return Weights(
            tensors={name: there[name] for name in _names(layers)},
            layers=layers,
            heads=int(config["num_attention_heads"]),
            epsilon=float(config["layer_norm_eps"]),
            dimensions=int(config["hidden_size"]),
            pieces={word: number for number, word in enumerate(words)},
            sha256=found,
        )
    except (KeyError, ValueError, TypeError, struct.error) as error:
        raise unlike(folder, error) from None


def unlike(folder: Path | str, error: Exception) -> BadInput:
    """What to raise when the weights in a folder are of another kind."""
    return BadInput("encoder", str(folder), f"Its files are no encoder of this kind: {error!r}.")


def _names(layers: int) -> Iterator[str]:
    for part in ("word", "position", "token_type"):
        yield f"embeddings.{part}_embeddings.weight"
    for name in (
        "embeddings.LayerNorm",
        *(f"encoder.layer.{number}.{part}" for number in range(layers) for part in _MAPS),
    ):
        yield f"{name}.weight"
        yield f"{name}.bias"


def _tensors(np: Any, raw: bytes) -> dict[str, Any]:
    (size,) = struct.unpack("<Q", raw[:8])
    head = cast("dict[str, Any]", json.loads(raw[8 : 8 + size]))
    tensors: dict[str, Any] = {}
    for name, about in head.items():
        if name == "__metadata__" or about["dtype"] not in _KINDS:
            continue
        kind, width = _KINDS[about["dtype"]]
        first, last = about["data_offsets"]
        flat = np.frombuffer(raw, dtype=kind, count=(last - first) // width, offset=8 + size + first)
        tensors[name.removeprefix("bert.")] = np.require(flat.reshape(about["shape"]), np.float32, ["C", "ALIGNED"])
    return tensors
