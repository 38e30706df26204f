"""Model strings: what they become, what is refused, and how fast a missing credential is noticed."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from blackboard.errors import BadInput, MissingExtra, ModelUnavailable
from wrapper.models import ModelCallFailed, ModelTransient, ScriptedModel, converse, describe, resolve
from wrapper.models.bedrock import metadata_service_expected

ASK = [{"role": "user", "content": [{"text": "go"}]}]
CREDENTIALS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_PROFILE",
    "AWS_BEARER_TOKEN_BEDROCK",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_EC2_METADATA_DISABLED",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_AUTH_TOKEN",
    "OPENAI_API_KEY",
    "OLLAMA_HOST",
    "ARBITER_MODEL",
)


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch, tmp_path):
    for name in CREDENTIALS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def aws_keys(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-a-secret")


def test_a_model_object_passes_through():
    model = ScriptedModel(["x"])
    assert resolve(model) is model
    with pytest.raises(BadInput, match="configure the object"):
        resolve(model, temperature=0)


def test_a_scripted_string_plays_the_file(tmp_path):
    script = tmp_path / "s.json"
    script.write_text(json.dumps({"scenes": [{"turns": ["hello"]}]}))
    assert describe(resolve(f"scripted:{script}")) == f"scripted ({script}) — not a real model"


@pytest.mark.parametrize(
    ("spec", "suggestion"),
    [
        ("bedrok:us.amazon.nova-lite-v1:0", "bedrock:us.amazon.nova-lite-v1:0"),
        ("antropic:claude-sonnet-4", "anthropic:claude-sonnet-4"),
        ("OpenAI:gpt-5", "openai:gpt-5"),
        ("olama", "ollama:ID[@host]"),
        ("claude-sonnet-4", "anthropic:claude-sonnet-4"),
        ("gpt-5", "openai:gpt-5"),
        ("us.anthropic.claude-sonnet-4-v1:0", "bedrock:us.anthropic.claude-sonnet-4-v1:0"),
        ("arn:aws:bedrock:us-east-1:1:inference-profile/x", "bedrock:arn:aws"),
        ("examples/orders.json", "scripted:examples/orders.json"),
        ("run.jsonl", "recorded:run.jsonl"),
    ],
)
def test_an_unknown_string_is_refused_with_the_forms_and_a_suggestion(spec, suggestion):
    with pytest.raises(BadInput) as caught:
        resolve(spec)
    assert caught.value.field == "model"
    assert f"Did you mean {suggestion}" in str(caught.value)
    assert "ollama:ID[@host]" in caught.value.remedy


@pytest.mark.parametrize("spec", ["xyzzy", "", "   ", 4, object(), "anthropic:", "scripted:", "scripted:/nowhere.json"])
def test_nonsense_is_refused_without_a_traceback_of_a_provider(spec):
    with pytest.raises(BadInput) as caught:
        resolve(spec)
    assert caught.value.field == "model"


@pytest.mark.parametrize("extra", ["anthropic", "openai", "ollama"])
def test_a_missing_extra_names_the_command(monkeypatch, extra):
    monkeypatch.setitem(sys.modules, extra, None)
    with pytest.raises(MissingExtra, match=rf"pip install 'arbiter\[{extra}\]'"):
        resolve(f"{extra}:some-model")


@pytest.mark.parametrize(("provider", "variable"), [("anthropic", "ANTHROPIC_API_KEY"), ("openai", "OPENAI_API_KEY")])
def test_a_missing_key_names_the_variable(provider, variable):
    pytest.importorskip(provider)
    with pytest.raises(ModelUnavailable, match=f"{variable} is not set") as caught:
        resolve(f"{provider}:some-model")
    assert "\n" not in str(caught.value)


def test_missing_aws_credentials_are_noticed_at_once(monkeypatch):
    # An address that never answers stands for the metadata service: asking it would take a second or more.
    monkeypatch.setattr("wrapper.models.bedrock._VENDOR", "/nonexistent")
    asked: list[str] = []
    monkeypatch.setattr(
        "botocore.utils.InstanceMetadataFetcher.retrieve_iam_role_credentials", lambda self: asked.append("asked") or {}
    )
    with pytest.raises(ModelUnavailable, match="no AWS credentials were found") as caught:
        resolve("bedrock:us.amazon.nova-lite-v1:0")
    assert asked == []
    assert "AWS_ACCESS_KEY_ID" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_metadata_service_is_asked_where_it_may_exist(monkeypatch):
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "false")
    asked: list[str] = []
    monkeypatch.setattr(
        "botocore.utils.InstanceMetadataFetcher.retrieve_iam_role_credentials", lambda self: asked.append("asked") or {}
    )
    with pytest.raises(ModelUnavailable):
        resolve("bedrock:us.amazon.nova-lite-v1:0")
    assert asked == ["asked"]


def test_a_machine_is_asked_whether_it_is_an_ec2_instance(tmp_path):
    vendor = tmp_path / "sys_vendor"
    assert not metadata_service_expected({}, vendor)
    vendor.write_text("Amazon EC2\n")
    assert metadata_service_expected({}, vendor)
    assert not metadata_service_expected({"AWS_EC2_METADATA_DISABLED": "true"}, vendor)
    vendor.write_text("QEMU\n")
    assert not metadata_service_expected({}, vendor)
    assert metadata_service_expected({"AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://[fd00:ec2::254]"}, vendor)


def test_an_unknown_profile_is_a_line_and_not_a_traceback(monkeypatch):
    monkeypatch.setenv("AWS_PROFILE", "nowhere")
    with pytest.raises(ModelUnavailable, match="nowhere"):
        resolve("bedrock:us.amazon.nova-lite-v1:0")


def test_an_unreadable_endpoint_is_a_line_that_names_the_variable(monkeypatch, aws_keys):
    monkeypatch.setenv("AWS_ENDPOINT_URL_BEDROCK_RUNTIME", "localhost 4566")
    with pytest.raises(ModelUnavailable, match=r"Check.*AWS_ENDPOINT_URL_BEDROCK_RUNTIME"):
        resolve("bedrock:us.amazon.nova-lite-v1:0")


def test_a_bedrock_model_makes_one_request_per_call_and_takes_options(aws_keys):
    model = resolve("bedrock:us.amazon.nova-lite-v1:0", region_name="eu-west-1", max_tokens=77)
    assert model.client.meta.config.retries["total_max_attempts"] == 1
    assert model.client.meta.region_name == "eu-west-1"
    assert model.get_config()["max_tokens"] == 77
    assert describe(model) == "bedrock:us.amazon.nova-lite-v1:0"


@pytest.mark.parametrize("spec", [None, "bedrock", "bedrock:"])
def test_bedrock_is_the_default_with_the_default_model_of_strands(aws_keys, spec):
    assert describe(resolve(spec)).startswith("bedrock:global.anthropic.claude")


def test_the_environment_may_name_the_default(monkeypatch, tmp_path):
    script = tmp_path / "s.json"
    script.write_text(json.dumps({"scenes": [{"turns": ["hello"]}]}))
    monkeypatch.setenv("ARBITER_MODEL", f"scripted:{script}")
    assert isinstance(resolve(), ScriptedModel)


def test_ollama_takes_a_tag_and_a_host(monkeypatch):
    pytest.importorskip("ollama")
    model = resolve("ollama:llama3.2:3b@gpu-box:11434", temperature=0.1)
    assert model.host == "gpu-box:11434"
    assert model.get_config()["model_id"] == "llama3.2:3b"
    assert resolve("ollama:llama3.2").host == "http://localhost:11434"
    monkeypatch.setenv("OLLAMA_HOST", "http://elsewhere:1")
    assert resolve("ollama:llama3.2").host == "http://elsewhere:1"


class _Provider(ThreadingHTTPServer):
    """Answers every POST with one status and JSON body, and counts."""

    daemon_threads = True

    def __init__(self, status: int, body: dict) -> None:
        self.status, self.body, self.count = status, json.dumps(body).encode(), 0
        super().__init__(("127.0.0.1", 0), _Answer)
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class _Answer(BaseHTTPRequestHandler):
    def log_message(self, *_args) -> None: ...

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.server.count += 1
        self.send_response(self.server.status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)


@pytest.mark.parametrize(
    ("provider", "status", "body", "requests", "error"),
    [
        ("anthropic", 529, {"type": "error", "error": {"type": "overloaded_error", "message": "x"}}, 3, ModelTransient),
        ("anthropic", 429, {"type": "error", "error": {"type": "rate_limit_error", "message": "x"}}, 3, ModelTransient),
        (
            "anthropic",
            401,
            {"type": "error", "error": {"type": "authentication_error"}},
            1,
            ModelCallFailed,
        ),
        ("openai", 500, {"error": {"message": "x", "type": "server_error"}}, 3, ModelTransient),
        ("openai", 429, {"error": {"message": "rate limit", "code": "rate_limit_exceeded"}}, 3, ModelTransient),
        ("openai", 429, {"error": {"message": "pay", "code": "insufficient_quota"}}, 1, ModelCallFailed),
        ("openai", 404, {"error": {"message": "no such model", "code": "model_not_found"}}, 1, ModelCallFailed),
        ("ollama", 503, {"error": "loading"}, 3, ModelTransient),
        ("ollama", 404, {"error": "model not found"}, 1, ModelCallFailed),
    ],
)
async def test_other_providers_are_asked_as_often_and_no_oftener(monkeypatch, provider, status, body, requests, error):
    pytest.importorskip(provider)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "key")
    monkeypatch.setenv("OPENAI_API_KEY", "key")

    async def sleep(_seconds: float) -> None: ...

    server = _Provider(status, body)
    try:
        if provider == "ollama":
            model = resolve(f"ollama:llama@{server.url}")
        else:
            base = server.url if provider == "anthropic" else f"{server.url}/v1"
            model = resolve(f"{provider}:m", client_args={"base_url": base, "max_retries": 5})
        with pytest.raises(error) as caught:
            await converse(model, ASK, attempts=3, sleep=sleep)
    finally:
        server.shutdown()
        server.server_close()
    assert type(caught.value) is error
    assert server.count == requests
    assert str(caught.value).startswith(f"{provider}:")


def test_nothing_heavy_is_imported_before_it_is_needed():
    program = (
        "import sys, wrapper.models, wrapper.testing\n"
        "assert callable(wrapper.models.converse) and callable(wrapper.models.resolve)\n"
        "heavy = {'strands', 'boto3', 'botocore', 'anthropic', 'openai', 'ollama'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "import wrapper.models.converse, wrapper.models.resolve\n"
        "from wrapper.models import converse, resolve\n"
        "assert callable(converse) and callable(resolve)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
