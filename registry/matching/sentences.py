"""Runs a sentence encoder of the BERT family out of a folder of weights: with onnxruntime where it is installed, or NumPy.

Such an encoder reads the first 256 pieces of a text, averages what its last layer makes of them, and scales the result to
length 1. The folder is one that :mod:`registry.matching.weights` reads, :mod:`registry.matching.pieces` takes a text to pieces;
:mod:`registry.matching.numpy_runtime` and :mod:`registry.matching.onnx_runtime` take pieces to the same vectors.

Source: Reimers and Gurevych, "Sentence-BERT" (2019).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from copy import copy
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from blackboard.errors import BadInput
from registry.matching.numpy_runtime import NumpyRuntime
from registry.matching.onnx_runtime import OnnxRuntime, installed
from registry.matching.pieces import Pieces
from registry.matching.weights import Weights, read, unlike

_log = logging.getLogger(__name__)
_AT_ONCE = 32


class SentenceEncoder:
    """Texts to vectors of length 1, by the weights in a folder.

    Args:
        folder: see this module.
        sha256: what the weights must hash to, in hex. Default: not checked. The file is data, not code: wrong weights
            give wrong neighbours, and cannot do more.
        runtime: what runs them, ``"numpy"`` or ``"onnxruntime"``. Default: onnxruntime where it and onnx are installed and
            work, else NumPy; an installation that does not work is told in the log.

    Raises:
        BadInput: NumPy is not installed, a file is missing or unreadable, the weights are others than asked for, or
            the runtime that was asked for is none or does not work.
    """

    def __init__(
        self,
        folder: Path | str,
        sha256: str | None = None,
        runtime: Literal["numpy", "onnxruntime"] | None = None,
    ) -> None:
        if runtime not in (None, "numpy", "onnxruntime"):
            raise BadInput("runtime", runtime, 'Use "numpy" or "onnxruntime", or leave it out.')
        weights = read(folder, sha256)
        self._np: Any = import_module("numpy")
        try:
            self._pieces = Pieces(weights.pieces)
            self._run, for_needs = _runtimes(weights, runtime)
        except BadInput:
            raise
        except (KeyError, ValueError) as error:
            raise unlike(folder, error) from None
        self.runtime: str = self._run.name
        """What runs the weights: ``"numpy"`` or ``"onnxruntime"``. Both give the same vectors."""
        self.dimensions = weights.dimensions
        """How many numbers a vector has."""
        self.identity = f"weights:{weights.sha256[:16]}"
        """Changes with the weights; vectors of different identities cannot be compared."""
        self.needs: SentenceEncoder = self
        """Makes the vectors of needs, which somebody waits for: by onnxruntime in whole numbers of 8 bits, and so nearly the
        same ones, under an identity of their own."""
        if for_needs is not self._run:
            self.needs = needs = copy(self)
            needs._run, needs.identity, needs.needs = for_needs, f"{self.identity}:8", needs

    def __call__(self, texts: Sequence[str]) -> list[list[float]]:
        """A vector for each text, in order."""
        return self.encode(texts).tolist()

    def encode(self, texts: Sequence[str]) -> Any:
        """:meth:`__call__` as a NumPy array, a row for each text."""
        pieces = [self._pieces(text) for text in texts]
        rows = self._np.zeros((len(texts), self.dimensions), dtype=self._np.float32)
        # Texts of like length together, so that little is computed for padding.
        order = sorted(range(len(texts)), key=lambda number: len(pieces[number]))
        for start in range(0, len(order), _AT_ONCE):
            chosen = order[start : start + _AT_ONCE]
            rows[chosen] = self._run(*self._batch([pieces[number] for number in chosen]))
        return rows

    def _batch(self, texts: Sequence[Sequence[int]]) -> tuple[Any, Any]:
        """Numbers of pieces and where they are, in rows of one length."""
        shape = len(texts), max(map(len, texts))
        ids, mask = self._np.zeros(shape, dtype="i8"), self._np.zeros(shape, dtype="f4")
        for row, pieces in enumerate(texts):
            ids[row, : len(pieces)] = pieces
            mask[row, : len(pieces)] = 1.0
        return ids, mask


def _runtimes(weights: Weights, wanted: str | None) -> tuple[NumpyRuntime | OnnxRuntime, NumpyRuntime | OnnxRuntime]:
    """What runs weights, and what runs them for needs."""
    if wanted == "numpy" or (wanted is None and not installed()):
        found = NumpyRuntime(weights)
        return found, found
    try:
        return OnnxRuntime(weights), OnnxRuntime(weights, rounded=True)
    except Exception as error:  # whatever is wrong with an installation, the weights can be run without
        if wanted is not None:
            remedy = f"It does not work here ({error!r}); install arbiter[onnx], or leave the runtime out."
            raise BadInput("runtime", wanted, remedy) from error
        found = NumpyRuntime(weights)
        _log.warning("onnxruntime is installed and does not work, NumPy runs the encoder: %r", error)
        return found, found
