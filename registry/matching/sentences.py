"""Runs a sentence encoder of the BERT family out of a folder of weights, with NumPy and nothing else.

The folder is one that Sentence Transformers reads: ``model.safetensors``, ``vocab.txt``, ``config.json``. Such an encoder
reads the first 256 pieces of a text, averages what its last layer makes of them, and scales the result to length 1.

Sources: Devlin et al., "BERT" (2019); Reimers and Gurevych, "Sentence-BERT" (2019); Wu et al., "Google's Neural Machine
Translation System" (2016), section 4.1, for word pieces; the safetensors format.
"""

from __future__ import annotations

import hashlib
import json
import struct
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any, cast

from blackboard.errors import BadInput

_PIECES = 256
_AT_ONCE = 32
_PRODUCT = 1_000_000
_ROWS = 20
_COLUMNS = 64
"""How many multiplications a product has at most, with how many rows and how many columns of weights. Up to a million a BLAS
neither rearranges the weights, which takes a short text twice the time, nor divides the product among threads, which takes
ten times the processor on a busy machine, where they wait for each other."""
_READ = 4000
"""Characters of a text that can matter: 256 pieces are hardly ever longer."""
_SERIES = (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)
"""Of the error function, from the highest power down."""
_KINDS = {"F32": ("<f4", 4), "F16": ("<f2", 2)}


class SentenceEncoder:
    """Texts to vectors of length 1, by the weights in a folder.

    Args:
        folder: see this module.
        sha256: what the weights must hash to, in hex. Default: not checked. The file is data, not code: wrong weights
            give wrong neighbours, and cannot do more.

    Raises:
        BadInput: NumPy is not installed, a file is missing or unreadable, or the weights are others than asked for.
    """

    def __init__(self, folder: Path | str, sha256: str | None = None) -> None:
        try:
            self._np: Any = import_module("numpy")
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
            self._tensors = self._read(raw)
            self._layers, self._heads = int(config["num_hidden_layers"]), int(config["num_attention_heads"])
            self._epsilon = float(config["layer_norm_eps"])
            self.dimensions = int(config["hidden_size"])
            """How many numbers a vector has."""
            self._ids = {word: number for number, word in enumerate(words)}
            self._start, self._end = self._ids["[CLS]"], self._ids["[SEP]"]
            self._unknown = self._ids["[UNK]"]
            self._blocks = self._together(self._linears())
        except (KeyError, ValueError, TypeError, struct.error) as error:
            raise BadInput("encoder", str(folder), f"Its files are no encoder of this kind: {error!r}.") from None
        self.identity = f"weights:{found[:16]}"
        """Changes with the weights; vectors of different identities cannot be compared."""

    def __call__(self, texts: Sequence[str]) -> list[list[float]]:
        """A vector for each text, in order."""
        return self.encode(texts).tolist()

    def encode(self, texts: Sequence[str]) -> Any:
        """:meth:`__call__` as a NumPy array, a row for each text."""
        np = self._np
        pieces = [self._pieces(text) for text in texts]
        rows = np.zeros((len(texts), self.dimensions), dtype=np.float32)
        # Texts of like length together, so that little is computed for padding.
        order = sorted(range(len(texts)), key=lambda number: len(pieces[number]))
        for start in range(0, len(order), _AT_ONCE):
            chosen = order[start : start + _AT_ONCE]
            rows[chosen] = self._forward([pieces[number] for number in chosen])
        return rows

    def _read(self, raw: bytes) -> dict[str, Any]:
        np = self._np
        (size,) = struct.unpack("<Q", raw[:8])
        head = cast("dict[str, Any]", json.loads(raw[8 : 8 + size]))
        tensors: dict[str, Any] = {}
        for name, about in head.items():
            if name == "__metadata__" or about["dtype"] not in _KINDS:
                continue
            kind, _ = _KINDS[about["dtype"]]
            first, last = about["data_offsets"]
            flat = np.frombuffer(
                raw, dtype=kind, count=(last - first) // _KINDS[about["dtype"]][1], offset=8 + size + first
            )
            tensors[name.removeprefix("bert.")] = flat.reshape(about["shape"]).astype(np.float32)
        return tensors

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

    def _pieces(self, text: str) -> list[int]:
        found = [self._start]
        for word in _words(text[:_READ]):
            found += self._word(word)
            if len(found) >= _PIECES - 1:
                break
        return [*found[: _PIECES - 1], self._end]

    def _word(self, word: str) -> list[int]:
        """The longest known pieces of a word, from its beginning."""
        if len(word) > 100:
            return [self._unknown]
        found: list[int] = []
        start = 0
        while start < len(word):
            for end in range(len(word), start, -1):
                piece = self._ids.get(word[start:end] if start == 0 else "##" + word[start:end])
                if piece is not None:
                    found.append(piece)
                    start = end
                    break
            else:
                return [self._unknown]
        return found

    def _forward(self, batch: Sequence[Sequence[int]]) -> Any:
        np, get = self._np, self._tensors
        texts, longest = len(batch), max(map(len, batch))
        ids = np.zeros((texts, longest), dtype=np.int64)
        mask = np.zeros((texts, longest), dtype=np.float32)
        for row, pieces in enumerate(batch):
            ids[row, : len(pieces)] = pieces
            mask[row, : len(pieces)] = 1.0
        hidden = get["embeddings.word_embeddings.weight"][ids]
        hidden += get["embeddings.position_embeddings.weight"][:longest]
        hidden += get["embeddings.token_type_embeddings.weight"][0]
        hidden = self._norm(hidden.reshape(texts * longest, self.dimensions), "embeddings.LayerNorm")
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
        summed = (hidden.reshape(texts, longest, self.dimensions) * mask[:, :, None]).sum(axis=1)
        mean = summed / mask.sum(axis=1, keepdims=True)
        return mean / np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-12)

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
        rows -= (np.add.reduce(rows, axis=1) / np.float32(self.dimensions))[:, None]
        spread = np.vecdot(rows, rows)
        spread /= np.float32(self.dimensions)
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


def _words(text: str) -> Iterator[str]:
    """Words and marks in lower case without accents, as the encoder was trained on them."""
    word = ""
    for sign in unicodedata.normalize("NFD", text.lower()):
        kind = _kind(sign)
        if kind == "drop":
            continue
        if kind == "letter":
            word += sign
            continue
        if word:
            yield word
            word = ""
        if kind == "mark":
            yield sign
    if word:
        yield word


@lru_cache(maxsize=8192)
def _kind(sign: str) -> str:
    code, category = ord(sign), unicodedata.category(sign)
    if sign in "\t\n\r" or category == "Zs":
        return "blank"
    if category in ("Mn", "Cc", "Cf") or code in (0, 0xFFFD):
        return "drop"
    ascii_mark = 33 <= code <= 47 or 58 <= code <= 64 or 91 <= code <= 96 or 123 <= code <= 126
    chinese = 0x3400 <= code <= 0x9FFF or 0xF900 <= code <= 0xFAFF or 0x20000 <= code <= 0x2FA1F
    return "mark" if ascii_mark or chinese or category.startswith("P") else "letter"
