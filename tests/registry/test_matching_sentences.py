"""What weights make of a text, by each runtime, against the same reckoned one number after the other; which runtime is
taken. Needs NumPy."""

from __future__ import annotations

import json
import logging
import math
import os
import struct
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any, Literal

import pytest

np: Any = pytest.importorskip("numpy")

from benchmarks import weights  # noqa: E402
from blackboard.errors import BadInput  # noqa: E402
from registry.matching.encoders import LimitedEncoder  # noqa: E402
from registry.matching.numpy_runtime import NumpyRuntime  # noqa: E402
from registry.matching.onnx_runtime import installed  # noqa: E402
from registry.matching.sentences import SentenceEncoder  # noqa: E402
from registry.matching.weights import read  # noqa: E402

needs_onnx = pytest.mark.skipif(not installed(), reason="needs onnx and onnxruntime")
RUNTIMES = ["numpy", pytest.param("onnxruntime", marks=needs_onnx)]
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


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_vector_is_what_the_formulas_say_alone_and_among_others(
    folder: Path, runtime: Literal["numpy", "onnxruntime"]
) -> None:
    encoder = SentenceEncoder(folder, runtime=runtime)
    texts = {"A boat.": [2, 4, 5, 10, 3], "cold sails": [2, 8, 7, 6, 3], "": [2, 3], "Oddly winter": [2, 1, 9, 3]}
    together = encoder(list(texts))
    for (text, pieces), vector in zip(texts.items(), together, strict=True):
        assert vector == pytest.approx(plainly(folder, pieces).tolist(), abs=1e-5)
        assert encoder([text])[0] == pytest.approx(vector, abs=1e-5)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_of_a_long_text_the_beginning_counts(folder: Path, runtime: Literal["numpy", "onnxruntime"]) -> None:
    encoder = SentenceEncoder(folder, runtime=runtime)
    beginning = "boat cold " * 127
    assert encoder([beginning + "winter " * 900])[0] == pytest.approx(
        plainly(folder, [2, *[5, 8] * 127, 3]).tolist(), abs=1e-5
    )


@needs_onnx
def test_both_runtimes_give_the_same_vectors_under_the_same_identity(folder: Path) -> None:
    ours, theirs = (SentenceEncoder(folder, runtime=each) for each in ("onnxruntime", "numpy"))
    texts = ["", "winter " * 900, *(" ".join(WORDS[-number % 7 :] * (number % 19)) for number in range(70))]
    assert (ours.encode(texts) * theirs.encode(texts)).sum(1).min() > 0.99999
    assert ours.encode([]).shape == theirs.encode([]).shape == (0, 66)
    assert (ours.identity, ours.runtime, theirs.runtime) == (theirs.identity, "onnxruntime", "numpy")


@needs_onnx
def test_needs_are_encoded_in_fewer_digits_to_nearly_the_same_vectors_and_kept_apart(folder: Path) -> None:
    ours, theirs = (SentenceEncoder(folder, runtime=each) for each in ("onnxruntime", "numpy"))
    texts = ["", "winter " * 900, *(" ".join(WORDS[-number % 7 :] * (number % 19)) for number in range(70))]
    close = (ours.encode(texts) * ours.needs.encode(texts)).sum(1)
    assert 0.998 < close.min() < 0.999999
    assert (ours.needs.identity, theirs.needs.identity) == (f"{ours.identity}:8", ours.identity)
    limited = LimitedEncoder(ours)
    assert limited.needs.identity == LimitedEncoder(ours.needs).needs.identity == ours.needs.identity
    assert limited.needs(texts[:3]) == ours.needs(texts[:3]) != ours(texts[:3])


@needs_onnx
def test_onnxruntime_runs_weights_where_it_is_installed_with_onnx(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert SentenceEncoder(folder).runtime == "onnxruntime"
    for missing in ("onnx", "onnxruntime"):
        with monkeypatch.context() as without:
            without.setitem(sys.modules, missing, None)
            assert SentenceEncoder(folder).runtime == "numpy"
            with pytest.raises(BadInput, match=r"install arbiter\[onnx\]"):
                SentenceEncoder(folder, runtime="onnxruntime")
    assert not caplog.records


@pytest.fixture(params=["an import that fails", "no session"])
def broken(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An installation of onnxruntime that does not work, and what it says."""
    said = f"{request.param}: no libgomp"
    if request.param == "no session":
        ort: Any = pytest.importorskip("onnxruntime")

        def refuse(*_: object, **__: object) -> None:
            raise RuntimeError(said)

        monkeypatch.setattr(ort, "InferenceSession", refuse)
    else:
        (tmp_path / "onnxruntime.py").write_text(f"raise OSError({said!r})")
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)
    return said


@needs_onnx
def test_numpy_runs_weights_where_onnxruntime_does_not_work_and_the_log_says_why(
    folder: Path, broken: str, caplog: pytest.LogCaptureFixture
) -> None:
    encoder = SentenceEncoder(folder)
    assert encoder.runtime == "numpy"
    assert encoder(["A boat."])[0] == pytest.approx(plainly(folder, [2, 4, 5, 10, 3]).tolist(), abs=1e-5)
    (told,) = caplog.records
    assert told.levelno == logging.WARNING
    assert broken in told.getMessage()
    with pytest.raises(BadInput, match=broken) as refused:
        SentenceEncoder(folder, runtime="onnxruntime")
    assert refused.value.field == "runtime"


def test_a_runtime_that_is_none_is_refused(folder: Path) -> None:
    runtime: Any = "torch"
    with pytest.raises(BadInput, match='"numpy" or "onnxruntime"'):
        SentenceEncoder(folder, runtime=runtime)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_weights_without_a_tensor_that_is_needed_are_refused(
    folder: Path, runtime: Literal["numpy", "onnxruntime"]
) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes().replace(b"layer.1.output.LayerNorm.bias", b"layer.1.output.LayerNorm.bios"))
    with pytest.raises(BadInput, match=r"no encoder of this kind: .*layer\.1\.output\.LayerNorm\.bias"):
        SentenceEncoder(folder, runtime=runtime)


def test_numpy_keeps_nothing_of_the_file(folder: Path) -> None:
    weights = read(folder)
    whole = [weakref.ref(tensor) for tensor in weights.tensors.values()]
    run = NumpyRuntime(weights)
    del weights
    assert run.name == "numpy"
    assert not any(tensor() is not None for tensor in whole)


ALONE = """
import os, sys
import psutil
from registry.matching import sentences
assert not {"numpy", "onnx", "onnxruntime"} & set(sys.modules)
encoder = sentences.SentenceEncoder(sys.argv[1], runtime="onnxruntime")
text = ["cold winter " * 100]
vectors = encoder(text)
threads = psutil.Process().num_threads()
other = sentences.SentenceEncoder(sys.argv[1], runtime="onnxruntime")
assert other(text) == vectors
assert psutil.Process().num_threads() == threads
if (child := os.fork()) == 0:
    os._exit(0 if encoder(text) == vectors else 1)
assert os.waitpid(child, 0)[1] == 0
"""


@needs_onnx
def test_onnxruntime_is_loaded_with_an_encoder_tells_nobody_starts_no_threads_and_goes_on_in_a_fork(
    folder: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    heard = {
        "CI",
        "ORT_DISABLE_TELEMETRY",
        "XDG_CACHE_HOME",
    }  # with any of them it may be silent by itself, or write elsewhere
    environment = {name: value for name, value in os.environ.items() if name not in heard} | {"HOME": str(home)}
    said = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", ALONE, str(folder)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (said.returncode, said.stdout, said.stderr) == (0, "", "")
    assert list(home.iterdir()) == []
