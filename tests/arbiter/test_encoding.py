"""An encoder that is named in words: by commands, the environment and a program. Needs NumPy."""

from __future__ import annotations

import asyncio
import hashlib
import json
from pathlib import Path

import pytest
from arbiter_support import FUNCTIONS

pytest.importorskip("numpy")

from arbiter import Arbiter, doctor, encoding
from arbiter.cli import OK, REFUSED, main
from benchmarks import weights
from blackboard.errors import BadInput, ModelUnavailable
from blackboard.testing import RedisServer
from registry.matching.encoders import BedrockEncoder
from registry.matching.hybrid import HybridMatcher
from registry.matching.onnx_runtime import installed


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package on the path that holds the weights of a small encoder, and fails when it is imported."""
    for name, value in (("LAYERS", 1), ("HEADS", 2), ("SIZE", 16), ("INNER", 32), ("POSITIONS", 300)):
        monkeypatch.setattr(weights, name, value)
    place = tmp_path / "small_weights"
    (place / "model").mkdir(parents=True)
    (place / "__init__.py").write_text("raise RuntimeError('imported')")
    weights.write(place / "model", ["add", "numbers", "echo", "text"])
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delenv(encoding.VARIABLE, raising=False)
    return place


def hashed(package: Path) -> str:
    return hashlib.sha256((package / "model" / "model.safetensors").read_bytes()).hexdigest()


def test_a_folder_and_a_package_are_the_same_weights_and_another_hash_is_refused(package: Path) -> None:
    names = (f"{package}/model", "package:small_weights", f"package:small_weights#{hashed(package)}")
    assert len({encoding.encoder(name).identity for name in names}) == 1
    for wrong in (f"{package}/model#{'0' * 64}", f"package:small_weights#{'0' * 64}"):
        with pytest.raises(BadInput, match="not the weights asked for"):
            encoding.encoder(wrong)


@pytest.mark.parametrize(
    "name", ["package:no_such_thing", "package:json", "package:../x", "package:", "bedrock:x", "/no"]
)
def test_what_is_no_encoder_is_refused_with_what_to_name(name: str) -> None:
    with pytest.raises(BadInput, match=r"Name a folder|Use an id|Give a folder"):
        encoding.encoder(name)


def test_a_model_of_bedrock_is_named_without_a_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_ENDPOINT_URL_BEDROCK_RUNTIME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    assert isinstance(encoding.encoder("bedrock:cohere.embed-english-v3"), BedrockEncoder)  # in some region
    monkeypatch.setenv("AWS_REGION", "eu-west-1")  # boto3 itself does not read it
    found = encoding.encoder("bedrock:")
    assert found.identity == BedrockEncoder().identity
    assert found._client.meta.region_name == "eu-west-1"  # type: ignore[attr-defined]
    with pytest.raises(BadInput, match="no hash"):
        encoding.encoder("bedrock:cohere.embed-english-v3#00")
    monkeypatch.setenv("AWS_ENDPOINT_URL_BEDROCK_RUNTIME", "nonsense")
    with pytest.raises(ModelUnavailable, match=r"Invalid endpoint: nonsense\. Check AWS_REGION"):
        encoding.encoder("bedrock:")


async def test_a_process_matches_by_what_the_environment_names_and_keeps_the_vectors_on_the_board(
    package: Path, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(encoding.VARIABLE, "package:small_weights")
    async with Arbiter(redis_server.url, board="namedenc", capabilities=FUNCTIONS, roles=()) as a:
        matcher = a.registry._offered.matcher  # pyright: ignore[reportPrivateUsage]
        assert isinstance(matcher, HybridMatcher)
        assert await a.registry.shortlist("add two numbers")
        found = [key async for key in a.board.client.scan_iter(match="*namedenc#reg*vectors:weights:*")]
    assert len([key for key in found if not key.endswith(":8")]) == 1, (
        "and another one for needs, where those are apart"
    )
    async with Arbiter("memory://namedenc", capabilities=FUNCTIONS, roles=()) as a:
        assert await a.registry.shortlist("add two numbers")


async def test_a_search_of_the_command_line_goes_by_the_encoder(
    package: Path, redis_server: RedisServer, board_name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    place = ["--url", redis_server.url, "--board", board_name]
    search = ["capabilities", "search", "add", "--json", *place]
    async with Arbiter(redis_server.url, board=board_name, capabilities=FUNCTIONS, roles=()):
        assert await asyncio.to_thread(main, [*search, "--encoder", "package:small_weights"]) == OK
        by_both = json.loads(capsys.readouterr().out)["found"]
        assert await asyncio.to_thread(main, search) == OK
        by_words = json.loads(capsys.readouterr().out)["found"]
    assert ["deviations" in str(each) for each in (by_both, by_words)] == [True, False]
    assert await asyncio.to_thread(main, [*search, "--encoder", "package:none_of_that"]) == REFUSED
    assert "Name a folder" in capsys.readouterr().err


async def test_the_doctor_tries_an_encoder_that_is_named_and_says_what_to_do_about_another(package: Path) -> None:
    found = await doctor._encoder("package:small_weights", call=False)  # pyright: ignore[reportPrivateUsage]
    assert found.level == "ok"
    by = "onnxruntime" if installed() else "numpy"
    assert f" run by {by}; 16 numbers a text" in found.said
    missing = await doctor._encoder(str(package), call=False)  # pyright: ignore[reportPrivateUsage]
    assert (missing.level, missing.remedy) == ("fail", encoding.REMEDY)
