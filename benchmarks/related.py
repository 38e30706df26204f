"""Makes the table of related words the matcher ships: ``python -m benchmarks.related FOLDER [FILE]``.

FOLDER holds a sentence encoder's weights (see :mod:`registry.matching.sentences`). The words are the whole English words of its
own vocabulary, so the table owes nothing to any registry or corpus. Each is encoded alone; related are the words whose
vectors point nearly the same way. The table in the package was made with all-MiniLM-L6-v2 (Apache-2.0), whose weights
have the SHA-256 below. Needs NumPy, and a few minutes.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from registry.matching import related
from registry.matching.sentences import SentenceEncoder
from registry.matching.words import plain_words

WEIGHTS = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
NEAREST = 40
LEAST = 0.4
KEPT = 20
"""Related words of one word."""


def neighbours(folder: Path) -> dict[str, list[tuple[str, float]]]:
    """Words of an encoder's vocabulary to the words near them, with the cosine."""
    import numpy as np

    lines = (folder / "vocab.txt").read_text("utf-8").splitlines()
    words = [word for word in lines if word.isascii() and word.isalpha() and len(word) >= 3 and plain_words(word)]
    vectors: Any = SentenceEncoder(folder, WEIGHTS).encode(words)
    found: dict[str, list[tuple[str, float]]] = {}
    for start in range(0, len(words), 512):
        rows = vectors[start : start + 512] @ vectors.T
        nearest = np.argpartition(-rows, NEAREST, axis=1)[:, :NEAREST]
        for number, columns in enumerate(nearest):
            close = [(words[column], float(rows[number, column])) for column in columns]
            found[words[start + number]] = [each for each in close if each[1] >= LEAST]
    return found


def main() -> int:
    folder = Path(sys.argv[1])
    target = Path(sys.argv[2]) if len(sys.argv) > 2 else Path(related.__file__).with_name("related.bin")
    packed = related.pack(related.stems(neighbours(folder), KEPT))
    target.write_bytes(packed)
    print(f"{target}: {len(packed):,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
