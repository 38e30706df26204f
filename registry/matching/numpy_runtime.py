"""Runs an encoder's weights with NumPy and nothing else.

Source: Devlin et al., "BERT" (2019).
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from registry.matching.weights import Weights

_PRODUCT = 1_000_000
_ROWS = 20
_COLUMNS = 64
"""How many multiplications a product has at most, with how many rows and how many columns of weights. Up to a million a BLAS
neither rearranges the weights, which takes a short text twice the time, nor divides the product among threads, which takes
ten times the processor on a busy machine, where they wait for each other."""
_SERIES = (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)
"""Of the error function, from the highest power down."""


class NumpyRuntime:
    """A row for each text of a batch.

    Args:
        weights: what is run; nothing of them is kept alive.

    Raises:
        ValueError: the tensors do not fit each other.
    """

    name = "numpy"

    def __init__(self, weights: Weights) -> None:
        self._np: Any = import_module("numpy")
        self._layers, self._heads, self._epsilon = weights.layers, weights.heads, weights.epsilon
        self._dimensions = weights.dimensions
        self._tensors: dict[str, Any] = dict(weights.tensors)
        self._blocks = self._together(self._linears())
        self._tensors = {name: tensor.copy() for name, tensor in self._tensors.items()}

    def __call__(self, ids: Any, mask: Any) -> Any:
        """Vectors of length 1, a row for each text.

        Args:
            ids: numbers of pieces, a row for each text, filled up with any.
            mask: 1 where a piece is, 0 where a row was filled up.
        """
        np, get = self._np, self._tensors
        texts, longest = ids.shape
        hidden = get["embeddings.word_embeddings.weight"][ids]
        hidden += get["embeddings.position_embeddings.weight"][:longest]
        hidden += get["embeddings.token_type_embeddings.weight"][0]
        hidden = self._norm(hidden.reshape(texts * longest, self._dimensions), "embeddings.LayerNorm")
        # Texts of one length have nothing to hide.
        hiding = None if mask.all() else (mask - 1.0)[:, None, :, None] * np.float32(1e9)
        for number in range(self._layers):
            layer = f"encoder.layer.{number}."
            attended = self._attend(hidden.reshape(texts, longest, -1), hiding, layer)
            attended += hidden
            hidden = self._norm(attended, f"{layer}attention.output.LayerNorm")
            inner = self._linear(self._gelu(self._linear(hidden, f"{layer}intermediate.dense")), f"{layer}output.dense")
            inner += hidden
            hidden = self._norm(inner, f"{layer}output.LayerNorm")
        summed = (hidden.reshape(texts, longest, self._dimensions) * mask[:, :, None]).sum(axis=1)
        mean = summed / mask.sum(axis=1, keepdims=True)
        return mean / np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-12)

    def _linears(self) -> dict[str, tuple[str, ...]]:
        """The linear maps by name, each with what it is put together of: query, key and value are one."""
        found: dict[str, tuple[str, ...]] = {}
        for number in range(self._layers):
            layer = f"encoder.layer.{number}."
            found[f"{layer}attention.self"] = tuple(
                f"{layer}attention.self.{part}" for part in ("query", "key", "value")
            )
            for each in ("attention.output.dense", "intermediate.dense", "output.dense"):
                found[layer + each] = (layer + each,)
        return found

    def _together(self, linears: dict[str, tuple[str, ...]]) -> dict[str, tuple[Any, Any]]:
        """The linear maps, their weights in one piece of memory: a text reads all of it, and one so large NumPy asks the
        system to keep in large pages."""
        room = self._np.empty(
            sum(self._tensors[f"{part}.weight"].size for parts in linears.values() for part in parts), dtype="f4"
        )
        found: dict[str, tuple[Any, Any]] = {}
        for name, parts in linears.items():
            found[name] = self._block(parts, room)
            room = room[found[name][0].size :]
        return found

    def _block(self, parts: Sequence[str], room: Any) -> tuple[Any, Any]:
        """The weights of a map in blocks of a few columns, one block after the other, at the beginning of some room, and
        its bias."""
        np = self._np
        weight = np.concatenate([self._tensors.pop(f"{part}.weight") for part in parts])
        bias = np.concatenate([self._tensors.pop(f"{part}.bias") for part in parts])
        columns, size = weight.shape
        most = min(_COLUMNS, max(1, _PRODUCT // (_ROWS * size)))
        width = max(each for each in range(1, most + 1) if columns % each == 0)
        blocks = room[: weight.size].reshape(columns // width, size, width)
        blocks[:] = weight.reshape(columns // width, width, size).transpose(0, 2, 1)
        return blocks, bias

    def _attend(self, hidden: Any, hiding: Any, layer: str) -> Any:
        np = self._np
        texts, length, size = hidden.shape
        flat = self._linear(hidden.reshape(texts * length, size), f"{layer}attention.self")
        query, key, value = flat.reshape(texts, length, 3, self._heads, -1).transpose(2, 0, 3, 1, 4)
        # A column for each piece that asks: along columns of few numbers NumPy is faster than along rows.
        scores = key @ query.transpose(0, 1, 3, 2)
        scores *= np.float32((size // self._heads) ** -0.5)
        if hiding is not None:
            scores += hiding
        scores -= np.maximum.reduce(scores, axis=2, keepdims=True)
        np.exp(scores, out=scores)
        scores /= np.add.reduce(scores, axis=2, keepdims=True)
        seen = np.empty((texts, length, self._heads, size // self._heads), dtype=np.float32)
        np.matmul(scores.transpose(0, 1, 3, 2), value, out=seen.transpose(0, 2, 1, 3))
        return self._linear(seen.reshape(texts * length, size), f"{layer}attention.output.dense")

    def _linear(self, rows: Any, name: str) -> Any:
        np = self._np
        blocks, bias = self._blocks[name]
        found = np.empty((len(rows), len(bias)), dtype=np.float32)
        parts = found.reshape(len(rows), len(blocks), -1).transpose(1, 0, 2)
        for start in range(0, len(rows), _ROWS):
            np.matmul(rows[start : start + _ROWS], blocks, out=parts[:, start : start + _ROWS])
        found += bias
        return found

    def _norm(self, rows: Any, name: str) -> Any:
        """Every row with mean 0 and deviation 1, scaled and moved; in place."""
        np = self._np
        rows -= (np.add.reduce(rows, axis=1) / np.float32(self._dimensions))[:, None]
        spread = np.vecdot(rows, rows)
        spread /= np.float32(self._dimensions)
        spread += np.float32(self._epsilon)
        rows /= np.sqrt(spread, out=spread)[:, None]
        rows *= self._tensors[f"{name}.weight"]
        rows += self._tensors[f"{name}.bias"]
        return rows

    def _gelu(self, x: Any) -> Any:
        """x times the normal distribution's share below x; the error function by Abramowitz and Stegun, 7.1.26."""
        np = self._np
        size = np.abs(x)
        t = size * np.float32(0.3275911 * 0.5**0.5)
        t += np.float32(1.0)
        np.reciprocal(t, out=t)
        series = t * np.float32(_SERIES[0] / 2)
        for each in _SERIES[1:]:
            series += np.float32(each / 2)
            series *= t
        series *= size
        size *= size
        size *= np.float32(-0.5)
        series *= np.exp(size, out=size)
        # The series is what is left beyond the size of x, times that size.
        np.maximum(x, np.float32(0.0), out=x)
        x -= series
        return x
