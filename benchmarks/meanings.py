"""Makes the table of what words mean that the matcher ships: ``python -m benchmarks.meanings FOLDER TEXTS [FILE]``.

FOLDER holds a sentence encoder's weights (see :mod:`registry.matching.sentences`), TEXTS one short text a line. The words are
those the texts use often and the whole English words of the encoder's own vocabulary. Each gets the vector with which
the sum over a text's words comes nearest to what the encoder makes of the whole text; words that the texts have seldom stay
near what the encoder makes of them alone. That is what is left of an encoder when it must cost microseconds.

The table in the package was made with all-MiniLM-L6-v2 (Apache-2.0), whose weights have the SHA-256 of
:data:`benchmarks.related.WEIGHTS`, and 125,000 one-line summaries of public packages; no corpus that matchers are measured on is
among them. For most of the texts an 8-bit copy of these weights was asked (cosine .993 to what the weights say): out of those
vectors :func:`table` makes the file of the package byte for byte, out of the vectors of the weights themselves one that differs
slightly. Needs NumPy, SciPy and the better part of an hour.

Source: ridge regression by conjugate gradients; the idea of a table instead of an encoder is that of Tissier et al. and
of Model2Vec.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.related import WEIGHTS
from registry.matching import meaning
from registry.matching.sentences import SentenceEncoder
from registry.matching.words import plain_words, stem, terms

DIMENSIONS = 128
OFTEN = 40
"""In how many texts a word must be that the encoder does not know whole."""
HOLD = 2.0
"""How many texts' worth it is what the encoder makes of the word alone."""
ROUNDS = 2
STEPS = 25
_WORDS = 40


def table(words: Sequence[str], alone: Any, texts: Sequence[str], vectors: Any) -> dict[str, Sequence[float]]:
    """Stems to vectors.

    Args:
        words: whole words the encoder knows.
        alone: what it makes of each, a row a word.
        texts: short texts.
        vectors: what it makes of each, a row a text.
    """
    import numpy as np

    sparse: Any = import_module("scipy.sparse")
    read = [[word for word in dict.fromkeys(terms(text)[:_WORDS]) if word.isalpha()] for text in texts]
    often = Counter(word for each in read for word in each)
    known = sorted({stem(word) for word in words} | {word for word, times in often.items() if times >= OFTEN})
    numbers = {word: number for number, word in enumerate(known)}
    # The directions in which texts differ most; what they all have in common says nothing.
    centred = vectors - vectors.mean(axis=0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    axes = axes[:, ::-1][:, :DIMENSIONS]
    wanted = centred @ axes
    wanted /= np.maximum(np.linalg.norm(wanted, axis=1, keepdims=True), 1e-9)
    own = np.zeros((len(known), DIMENSIONS))
    forms = np.zeros((len(known), 1))
    for word, vector in zip(words, (alone - alone.mean(axis=0)) @ axes, strict=True):
        own[numbers[stem(word)]] += vector
        forms[numbers[stem(word)]] += 1
    own /= np.maximum(forms, 1)
    rows = [row for row, each in enumerate(read) for word in each if word in numbers]
    columns = [numbers[word] for each in read for word in each if word in numbers]
    has: Any = sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), shape=(len(read), len(known)))
    together = (has.T @ has).tocsr()
    first = has @ own
    own *= (first * wanted).sum() / (first * first).sum()
    found, target = own.copy(), wanted
    for _ in range(ROUNDS):
        left = has.T @ target - together @ found + HOLD * (own - found)
        step, size = left.copy(), (left * left).sum(axis=0)
        for _ in range(STEPS):
            bent = together @ step + HOLD * step
            share = size / np.maximum((step * bent).sum(axis=0), 1e-12)
            found += share * step
            left -= share * bent
            before, size = size, (left * left).sum(axis=0)
            step = left + size / np.maximum(before, 1e-12) * step
        # Only directions count, so each text may be as long as its words make it.
        length = np.clip(((has @ found) * wanted).sum(axis=1, keepdims=True), 0.3, 2.0)
        target = wanted * length / length.mean()
    return {word: found[number].tolist() for word, number in numbers.items()}


def main() -> int:
    folder = Path(sys.argv[1])
    texts = Path(sys.argv[2]).read_text("utf-8").splitlines()
    target = Path(sys.argv[3]) if len(sys.argv) > 3 else Path(meaning.__file__).with_name("meaning.bin")
    encoder = SentenceEncoder(folder, WEIGHTS)
    lines = (folder / "vocab.txt").read_text("utf-8").splitlines()
    words = [word for word in lines if word.isascii() and word.isalpha() and len(word) >= 3 and plain_words(word)]
    packed = meaning.pack(table(words, encoder.encode(words), texts, encoder.encode(texts)))
    target.write_bytes(packed)
    print(f"{target}: {len(packed):,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
