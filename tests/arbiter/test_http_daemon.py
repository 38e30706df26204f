"""The HTTP API of a real daemon, asked over loopback by a real client."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from cli_process import Running, arbiter, records, until
from http_described import check

from blackboard.audit import somebody
from blackboard.board import Board
from blackboard.testing import RedisServer

ABILITIES = '''
import asyncio
from pathlib import Path

from arbiter import capability

HERE = Path(__file__).parent


@capability
def add(a: int, b: int) -> dict[str, int]:
    """Add two whole numbers."""
    return {"sum": a + b}


@capability
async def gate(name: str) -> dict[str, str]:
    """Wait until a file is there."""
    (HERE / f"{name}-waits").touch()
    while not (HERE / name).exists():
        await asyncio.sleep(0.01)
    return {"passed": name}


@capability
def broken(reason: str) -> None:
    """Fail."""
    raise RuntimeError(reason)


CAPABILITIES = [add, gate, broken]
'''


class Daemon:
    """One daemon on a board of its own, and a client with its user's token."""

    def __init__(self, folder: Path, url: str, board: str, *words: str) -> None:
        self.folder, self.on = folder, ["--url", url, "--board", board]
        self.url, self.board = url, board
        (folder / "model.json").write_text(json.dumps({"scenes": [{"turns": ["Hello."]}]}))
        (folder / "abilities.py").write_text(ABILITIES)
        self.env = {"ARBITER_DATA_DIR": str(folder / "data")}
        self.process = Running(
            "serve", "--model", f"scripted:{folder / 'model.json'}", "--capabilities", str(folder / "abilities.py"),
            "--roles", "arbiter,wrapper", *self.on, "--http", "127.0.0.1:0", "--grace", "2", *words, env=self.env,
        )  # fmt: skip

    def ready(self) -> httpx.Client:
        self.process.wait_for("ready")
        line = next(line for line in self.process.said if line.split()[:1] == ["http"])
        self.base = line.split()[1].rstrip(";,")
        self.token = (self.folder / "data" / "http" / "token").read_text().strip()
        return self.client(self.token)

    def client(self, token: str) -> httpx.Client:
        return httpx.Client(
            base_url=self.base, headers={"Authorization": f"Bearer {token}"}, timeout=60,
            event_hooks={"response": [check]},
        )  # fmt: skip

    def open(self, name: str) -> None:
        (self.folder / name).touch()


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, redis_server: RedisServer) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("http")
    one = Daemon(folder, redis_server.url, f"http{os.getpid()}")
    with one.process:
        one.ready().close()
        yield one


@pytest.fixture
def client(daemon: Daemon) -> Iterator[httpx.Client]:
    with daemon.client(daemon.token) as client:
        yield client


def submitted(client: httpx.Client, **request: Any) -> str:
    answer = client.post("/v1/runs", **request)
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == f"/v1/runs/{answer.json()['run_id']}"
    return answer.json()["run_id"]


def called(client: httpx.Client, capability: str, **given: Any) -> str:
    answer = client.post("/v1/calls", json={"capability": capability, "input": given})
    assert answer.status_code == 202, answer.text
    return answer.json()["run_id"]


def frames(response: httpx.Response) -> Iterator[dict[str, str]]:
    """The events of a stream, parsed as its standard says."""
    fields: dict[str, str] = {}
    for line in response.iter_lines():
        if not line:
            if "data" in fields:
                yield fields
            fields = {}
        elif not line.startswith(":"):
            name, _, value = line.partition(": ")
            fields[name] = value


def test_it_is_off_unless_it_is_asked_for(daemon: Daemon) -> None:
    with Running("worker", *daemon.on, env=daemon.env) as worker:
        worker.wait_for("ready")
        assert not any(line.split()[:1] == ["http"] for line in worker.said)
        heard = psutil.Process(worker.process.pid).net_connections("inet")
        assert not [each for each in heard if each.status == psutil.CONN_LISTEN]


def test_the_token_of_the_user_is_made_once_and_for_nobody_else_to_read(daemon: Daemon) -> None:
    file = daemon.folder / "data" / "http" / "token"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert not any(daemon.token in line for line in daemon.process.said)
    assert httpx.get(f"{daemon.base}/v1/runs").status_code == 401


def test_a_request_is_planned_and_its_answer_is_waited_for(client: httpx.Client) -> None:
    run = submitted(client, content="Say hello.", headers={"Content-Type": "text/plain"})
    found = client.get(f"/v1/runs/{run}", params={"wait": 30}).json()
    assert (found["status"], found["answer"], found["request"]) == ("succeeded", "Hello.", "Say hello.")
    assert [turn["round"] for turn in found["round_list"]] == [1]


EVENT = {"specversion": "1.0", "id": "e-1", "source": "/shop", "type": "order", "data": {"item": "box"}}


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        ({"content": "Grüße", "headers": {"Content-Type": "text/plain; charset=utf-8"}}, "Grüße"),
        ({"json": "in words"}, "in words"),
        ({"json": {"do": ["a", []], "n": 12345678901234567890}}, {"do": ["a", []], "n": 12345678901234567890}),
        (
            {"content": json.dumps(EVENT), "headers": {"Content-Type": "application/cloudevents+json"}},
            EVENT,
        ),
        (
            {
                "content": '{"item": "box"}',
                "headers": {
                    "Content-Type": "application/json", "ce-specversion": "1.0", "ce-id": "e-2", "ce-source": "/shop",
                    "ce-type": "order", "ce-note": "a%20b%C3%BC",
                },
            },
            {**EVENT, "id": "e-2", "note": "a bü", "datacontenttype": "application/json"},
        ),
        (
            {
                "content": b"\x00\xff",
                "headers": {
                    "Content-Type": "image/png", "ce-specversion": "1.0", "ce-id": "e-3", "ce-source": "/shop",
                    "ce-type": "order",
                },
            },
            {
                "specversion": "1.0", "id": "e-3", "source": "/shop", "type": "order", "datacontenttype": "image/png",
                "data_base64": "AP8=",
            },
        ),
    ],
    ids=["text", "string", "object", "structured", "binary_json", "binary_bytes"],
)  # fmt: skip
def test_requests_come_as_text_json_and_cloudevents(client: httpx.Client, sent: dict[str, Any], stored: Any) -> None:
    run = submitted(client, **sent)
    assert client.get(f"/v1/runs/{run}").json()["request"] == stored


def test_an_event_that_is_delivered_twice_and_a_key_that_is_used_twice_are_one_run(client: httpx.Client) -> None:
    event = {**EVENT, "id": "twice"}
    structured = {"content": json.dumps(event), "headers": {"Content-Type": "application/cloudevents+json"}}
    assert submitted(client, **structured) == submitted(client, **structured)
    runs = {submitted(client, json={"n": 1}, headers={"Idempotency-Key": key}) for key in ("k-1", '"k-1"', "k-1")}
    assert len(runs) == 1
    other = client.post("/v1/runs", json={"n": 2}, headers={"Idempotency-Key": "k-1"})
    assert (other.status_code, other.json()["type"]) == (409, "urn:arbiter:problem:conflict")
    assert runs.pop() in other.json()["detail"]


def test_limits_and_tenant_come_with_the_query(client: httpx.Client) -> None:
    answer = client.post("/v1/runs", params={"tenant": "acme", "rounds": 3, "seconds": 12.5}, json={"go": 1})
    found = client.get(f"/v1/runs/{answer.json()['run_id']}").json()
    assert (found["tenant"], found["limits"]["rounds"], found["limits"]["seconds"]) == ("acme", 3, 12.5)


def test_a_capability_is_called_without_a_model(client: httpx.Client) -> None:
    run = called(client, "add", a=2, b=3)
    assert client.get(f"/v1/runs/{run}", params={"wait": 30}).json()["data"] == {"sum": 5}


def test_runs_are_listed_by_terms_in_pages(client: httpx.Client) -> None:
    runs = [
        client.post("/v1/runs", params={"tenant": "pages"}, json={"page": number}).json()["run_id"]
        for number in range(5)
    ]
    found: list[str] = []
    after: str | None = None
    while True:
        given = {"where": "tenant=pages", "limit": 2} | ({"after": after} if after else {})
        page = client.get("/v1/runs", params=given).json()
        assert len(page["runs"]) <= 2
        found += [run["run_id"] for run in page["runs"]]
        after = page["after"]
        if after is None:
            break
    assert sorted(found) == sorted(runs)
    assert client.get("/v1/runs", params={"where": "tenant=pages text~nothing"}).json()["runs"] == []


def test_events_stream_while_they_happen_and_a_cut_stream_goes_on_without_gap_or_duplicate(
    daemon: Daemon, client: httpx.Client
) -> None:
    run = called(client, "gate", name="stream")
    until(lambda: (daemon.folder / "stream-waits").exists(), "the task to start")
    with client.stream("GET", f"/v1/runs/{run}/events") as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        coming = frames(response)
        first = [next(coming), next(coming)]
        assert [frame["event"] for frame in first] == [
            "dev.arbiter.run.accepted.v1", "dev.arbiter.task.posted.v1",
        ]  # fmt: skip
        daemon.open("stream")
        whole = [*first, *coming]
    assert whole[-1]["event"] == "dev.arbiter.run.completed.v1"
    stored = client.get(f"/v1/runs/{run}/events", headers={"Accept": "application/json"}).json()["events"]
    assert [json.loads(frame["data"]) for frame in whole] == stored
    assert [frame["id"] for frame in whole] == [event["sequence"] for event in stored]
    for cut in range(len(whole)):
        with client.stream("GET", f"/v1/runs/{run}/events", headers={"Last-Event-ID": whole[cut]["id"]}) as response:
            assert list(frames(response)) == whole[cut + 1 :]


def test_a_stream_that_was_cut_by_a_stopping_daemon_goes_on_at_another_one(
    daemon: Daemon, client: httpx.Client, tmp_path: Path
) -> None:
    other = Daemon(tmp_path, daemon.url, daemon.board, "--lanes", "nothing")
    with other.process, other.ready() as elsewhere:
        run = called(client, "gate", name="moved")
        with elsewhere.stream("GET", f"/v1/runs/{run}/events") as response:
            coming = frames(response)
            first = [next(coming), next(coming)]
            before = time.monotonic()
            other.process.signal(signal.SIGTERM)
            first += list(coming)
        assert other.process.end() == 0
        assert time.monotonic() - before < 30
    daemon.open("moved")
    for folder in (tmp_path, daemon.folder):
        (folder / "moved").touch()
    with client.stream("GET", f"/v1/runs/{run}/events", headers={"Last-Event-ID": first[-1]["id"]}) as response:
        whole = [*first, *frames(response)]
    stored = client.get(f"/v1/runs/{run}/events", headers={"Accept": "application/json"}).json()["events"]
    assert [frame["id"] for frame in whole] == [event["sequence"] for event in stored]


def test_runs_are_paused_resumed_and_cancelled_and_it_is_on_record_by_whom(
    daemon: Daemon, client: httpx.Client
) -> None:
    run = called(client, "gate", name="held")
    paused = client.post(f"/v1/runs/{run}/pause", json={"reason": "lunch", "seconds": 60})
    assert paused.json() == {"run_id": run, "status": "paused"}
    assert client.post(f"/v1/runs/{run}/resume").json()["status"] == "running"
    assert client.post(f"/v1/runs/{run}/cancel", json={"reason": "enough"}).json()["status"] in (
        "cancelling", "cancelled",
    )  # fmt: skip
    assert client.get(f"/v1/runs/{run}", params={"wait": 30}).json()["status"] == "cancelled"
    task = called(client, "gate", name="task")
    until(lambda: (daemon.folder / "task-waits").exists(), "the task to start")
    said = client.post(f"/v1/runs/{task}/cancel", json={"task": f"{task}/0.call"}).json()
    assert (said["task"], said["status"]) == (f"{task}/0.call", "cancelling")
    done = arbiter("audit", "--json", "--where", "by~http kind=run.*,task.*", *daemon.on, env=daemon.env)
    assert [(each["kind"], each["by"], each["reason"]) for each in records(done.stdout)] == [
        ("run.paused", f"{somebody()} over http", "lunch"),
        ("run.resumed", f"{somebody()} over http", ""),
        ("run.cancelled", f"{somebody()} over http", "enough"),
        ("task.cancelled", f"{somebody()} over http", "cancelled over http"),
    ]


def test_work_that_was_given_up_is_looked_at_put_back_and_discarded(client: httpx.Client) -> None:
    runs = [called(client, "broken", reason=f"no. {number}") for number in range(3)]
    for run in runs:
        assert client.get(f"/v1/runs/{run}", params={"wait": 60}).json()["status"] == "failed"
    listed = client.get("/v1/dead-letters", params={"where": "capability=broken", "limit": 2}).json()
    assert len(listed["letters"]) == 2
    assert listed["after"] is not None
    full = client.get(f"/v1/dead-letters/{runs[0]}").json()
    assert (full["payload"], full["letter"]["type"]) == ({"reason": "no. 0"}, "handler_error")
    (one,) = client.post("/v1/dead-letters/redrive", json={"ids": [runs[0]]}).json()["redriven"]
    assert client.get(f"/v1/runs/{one['run_id']}").json()["redrive_of"] == runs[0]
    again = client.post("/v1/dead-letters/redrive", json={"ids": [runs[0]]}).json()["redriven"]
    assert again == [one]
    where = {"where": "capability=broken redriven=no", "dry_run": True}
    assert {each["letter"] for each in client.post("/v1/dead-letters/redrive", json=where).json()["redriven"]} >= {
        *runs[1:]
    }
    assert client.post("/v1/dead-letters/discard", json={"ids": runs}).json() == {"discarded": 3}
    assert client.get(f"/v1/dead-letters/{runs[1]}").status_code == 404


def test_capabilities_budgets_quotas_audit_and_metrics_are_told(daemon: Daemon, client: httpx.Client) -> None:
    listed = {one["name"]: one for one in client.get("/v1/capabilities").json()["capabilities"]}
    assert {"add", "gate", "broken"} <= set(listed)
    assert listed["add"]["input_schema"]["required"] == ["a", "b"]
    shown = client.get("/v1/capabilities/add").json()
    assert (shown["manifest"]["name"], shown["source"], len(shown["versions"])) == ("add", None, 1)
    for words in (
        ["budgets", "set", "tenant:rich", "--tokens", "500"],
        ["quotas", "set", "tenant:rich", "--at-once", "5"],
        ["quotas", "set", "model:m", "--tokens-per-minute", "5000"],
    ):
        assert arbiter(*words, *daemon.on, env=daemon.env).returncode == 0
    (level,) = client.get("/v1/budgets", params={"level": "tenant:rich"}).json()["budgets"]
    assert level["units"]["tokens"]["limit"] == 500
    quotas = client.get("/v1/quotas").json()["quotas"]
    assert {"subject": "model:m", "tokens_per_minute": 5000}.items() <= quotas[0].items()
    assert {"subject": "tenant:rich", "at_once": 5}.items() <= quotas[1].items()
    assert client.get("/v1/approvals").json() == {"waiting": []}
    assert arbiter("capabilities", "retire", "broken", *daemon.on, env=daemon.env).returncode == 0
    (away,) = client.get("/v1/capabilities/broken").json()["versions"]
    assert (away["state"], away["retired_by"], away["retired_for"]) == ("retired", somebody(), "person")
    assert (
        arbiter("capabilities", "activate", "broken", "--sha", away["sha"], *daemon.on, env=daemon.env).returncode == 0
    )
    (back,) = client.get("/v1/capabilities/broken").json()["versions"]
    assert (back["state"], back["retired_by"], back["retired_for"]) == ("active", None, None)
    run = called(client, "add", a=1, b=1)
    assert client.get(f"/v1/runs/{run}", params={"wait": 30}).json()["status"] == "succeeded"
    metrics = client.get("/metrics")
    assert metrics.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    lines = metrics.text.splitlines()
    assert 'arbiter_role{role="wrapper"} 1' in lines
    assert "arbiter_isolation_sandboxed 1" in lines
    assert 'arbiter_budget_limit{level="tenant:rich",unit="tokens"} 500' in lines
    assert 'arbiter_quota_running{subject="tenant:rich"} 0' in lines
    assert 'arbiter_quota_tokens{subject="model:m"} 0' in lines
    assert 'arbiter_tasks_ready{lane="local.add"} 0' in lines
    assert any(line.startswith('arbiter_tasks_completed_total{capability="add",status="succeeded"} ') for line in lines)


def test_a_process_without_a_sandbox_says_so_in_metrics_and_on_record(
    tmp_path: Path, redis_server: RedisServer, board_name: str
) -> None:
    one = Daemon(tmp_path, redis_server.url, board_name, "--isolation", "process")
    with one.process, one.ready() as client:
        lines = client.get("/metrics").text.splitlines()
        assert 'arbiter_isolation_backend{backend="process"} 1' in lines
        assert "arbiter_isolation_sandboxed 0" in lines
        (entry,) = client.get("/v1/audit").json()["entries"]
    assert (entry["kind"], entry["by"], entry["detail"]) == ("isolation.lowered", somebody(), {"backend": "process"})
    assert entry["subject"].startswith(f"{one.process.process.pid}@")


def test_readiness_needs_no_token_and_tells_a_word(daemon: Daemon) -> None:
    for path, said in (("/live", "live"), ("/ready", "ready")):
        answer = httpx.get(daemon.base + path)
        assert (answer.status_code, answer.json()) == (200, {"status": said})


@pytest.mark.parametrize("where", ["0.0.0.0:0", "[::]:0"])
def test_nothing_but_loopback_without_a_word_and_tokens(daemon: Daemon, where: str) -> None:
    words = ["serve", "--roles", "wrapper", *daemon.on, "--http", where]
    refused = arbiter(*words, env=daemon.env)
    assert refused.returncode == 2
    assert "--http-public NAME" in refused.stderr
    tokenless = arbiter(*words, "--http-public", "localhost", env=daemon.env)
    assert tokenless.returncode == 2
    assert "arbiter tokens create" in tokenless.stderr


def test_what_is_public_takes_tokens_of_the_board_and_its_own_name_and_is_on_record(
    tmp_path: Path, redis_server: RedisServer, board_name: str
) -> None:
    on = ["--url", redis_server.url, "--board", board_name]
    env = {"ARBITER_DATA_DIR": str(tmp_path / "data")}
    made = arbiter("tokens", "create", "--name", "ci", "--scope", "runs:read", "--json", *on, env=env)
    token = records(made.stdout)[0]["token"]
    (tmp_path / "data" / "http").mkdir(mode=0o700, parents=True)
    local = "arb_local_" + "x" * 43
    (tmp_path / "data" / "http" / "token").write_text(local)
    (tmp_path / "data" / "http" / "token").chmod(0o600)
    words = ["serve", "--roles", "wrapper", *on, "--http", "0.0.0.0:0", "--http-public", "arbiter.example.com"]
    with Running(*words, env=env) as process:
        process.wait_for("ready")
        said = next(line for line in process.said if line.split()[:1] == ["http"])
        assert any("not encrypted" in line for line in process.said)
        base = said.split()[1].rstrip(",").replace("0.0.0.0", "127.0.0.1")

        def status(host: str, shown: str) -> int:
            headers = {"Authorization": f"Bearer {shown}", "Host": host}
            return httpx.get(f"{base}/v1/runs", headers=headers).status_code

        assert status("arbiter.example.com", token) == 200
        assert status("evil.example.com", token) == 403
        assert status("arbiter.example.com", local) == 401
        assert httpx.get(f"{base}/ready", headers={"Host": "10.0.0.3"}).status_code == 200

    async def kinds() -> list[str]:
        from blackboard.audit import Audit

        async with await Board.open(redis_server.url, board=board_name) as board:
            return [entry.kind for entry in reversed((await Audit(board).list()).entries)]

    assert asyncio.run(kinds()) == ["token.made", "http.public", "token.refused"]


@pytest.mark.parametrize(
    ("words", "field"),
    [
        (["--http", "8300x"], "--http:"),
        (["--http", "127.0.0.1:99999"], "--http:"),
        (["--http", "no.such.host.invalid:80"], "--http:"),
        (["--http-public", "name"], "--http-public:"),
        (["--http", "127.0.0.1:0", "--http-public", "name:80"], "--http-public:"),
    ],
)
def test_an_address_that_makes_no_sense_is_refused(daemon: Daemon, words: list[str], field: str) -> None:
    done = arbiter("serve", "--roles", "wrapper", *daemon.on, *words, env=daemon.env)
    assert done.returncode == 2
    assert field in done.stderr
    assert "Traceback" not in done.stderr
