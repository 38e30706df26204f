"""What weights make of a text, against the same reckoned one number after the other. Needs NumPy."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

import pytest

np: Any = pytest.importorskip("numpy")

from benchmarks import weights  # noqa: E402
from registry.matching.sentences import SentenceEncoder  # noqa: E402

WORDS = ["a", "boat", "##s", "sail", "cold", "winter", "."]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Weights of a small encoder, whose columns do not go into blocks of the usual width."""
    for name, value in (("LAYERS", 2), ("HEADS", 3), ("SIZE", 66), ("INNER", 134), ("POSITIONS", 300)):
        monkeypatch.setattr(weights, name, value)
    weights.write(tmp_path, WORDS)
    # Large enough for a piece to attend to some pieces more than to others.
    path = tmp_path / "model.safetensors"
    raw = path.read_bytes()
    start = 8 + struct.unpack("<Q", raw[:8])[0]
    path.write_bytes(raw[:start] + (4 * np.frombuffer(raw[start:], "<f4")).tobytes())
    return tmp_path


def plainly(folder: Path, pieces: list[int]) -> Any:
    """The paper's formulas, in 64 bits."""
    raw = (folder / "model.safetensors").read_bytes()
    (size,) = struct.unpack("<Q", raw[:8])
    tensors: dict[str, Any] = {}
    for name, about in json.loads(raw[8 : 8 + size]).items():
        start, end = (8 + size + each for each in about["data_offsets"])
        tensors[name] = np.frombuffer(raw[start:end], "<f4").reshape(about["shape"]).astype(float)

    def norm(rows: Any, name: str) -> Any:
        scaled = (rows - rows.mean(1, keepdims=True)) / np.sqrt(rows.var(1, keepdims=True) + 1e-12)
        return scaled * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]

    def linear(rows: Any, name: str) -> Any:
        return rows @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"]

    def gelu(x: float) -> float:
        return x * (1 + math.erf(x / math.sqrt(2))) / 2

    hidden = tensors["embeddings.word_embeddings.weight"][pieces]
    hidden = hidden + tensors["embeddings.position_embeddings.weight"][: len(pieces)]
    hidden = norm(hidden + tensors["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    for number in range(2):
        layer = f"encoder.layer.{number}."
        parts = [linear(hidden, f"{layer}attention.self.{part}") for part in ("query", "key", "value")]
        seen: list[Any] = []
        for query, key, value in zip(*(np.split(part, 3, axis=1) for part in parts), strict=True):
            scores = np.exp(query @ key.T / math.sqrt(22))
            seen.append(scores / scores.sum(1, keepdims=True) @ value)
        attended = linear(np.concatenate(seen, axis=1), f"{layer}attention.output.dense")
        hidden = norm(hidden + attended, f"{layer}attention.output.LayerNorm")
        inner = np.vectorize(gelu)(linear(hidden, f"{layer}intermediate.dense"))
        hidden = norm(hidden + linear(inner, f"{layer}output.dense"), f"{layer}output.LayerNorm")
    mean = hidden.mean(0)
    return mean / np.linalg.norm(mean)


def test_a_vector_is_what_the_formulas_say_alone_and_among_others(folder: Path) -> None:
    encoder = SentenceEncoder(folder)
    texts = {"A boat.": [2, 4, 5, 10, 3], "cold sails": [2, 8, 7, 6, 3], "": [2, 3], "Oddly winter": [2, 1, 9, 3]}
    together = encoder(list(texts))
    for (text, pieces), vector in zip(texts.items(), together, strict=True):
        assert vector == pytest.approx(plainly(folder, pieces).tolist(), abs=1e-5)
        assert encoder([text])[0] == pytest.approx(vector, abs=1e-5)


def test_of_a_long_text_the_beginning_counts(folder: Path) -> None:
    encoder = SentenceEncoder(folder)
    beginning = "boat cold " * 127
    assert encoder([beginning + "winter " * 900])[0] == pytest.approx(
        plainly(folder, [2, *[5, 8] * 127, 3]).tolist(), abs=1e-5
    )
