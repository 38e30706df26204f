"""Spans of several processes, sent to a collector over HTTP as they send them to any: one trace for a run."""

from __future__ import annotations

import json
import signal
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from arbiter_support import call
from cli_process import Running, arbiter, records, until
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from blackboard import events, tracing
from blackboard.testing import RedisServer

ABILITIES = '''
from arbiter import capability


@capability
def add(a: int, b: int) -> dict[str, int]:
    """Add two whole numbers."""
    return {"sum": a + b}


CAPABILITIES = [add]
'''


class Collector:
    """Takes spans as OTLP over HTTP, or answers that it cannot."""

    def __init__(self, status: int = 200) -> None:
        self.status, self.asked = status, 0
        self.spans: list[tuple[str, Any]] = []
        """With the name of the service each came from."""
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                collector.asked += 1
                if self.path == "/v1/traces" and collector.status == 200:
                    collector.take(body)
                self.send_response(collector.status)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def take(self, body: bytes) -> None:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            named = {each.key: each.value.string_value for each in resource.resource.attributes}
            self.spans += [(named["service.name"], span) for scope in resource.scope_spans for span in scope.spans]

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def collector() -> Iterator[Collector]:
    one = Collector()
    yield one
    one.close()


class Pair:
    """A process that plans and one that works, on a board of their own."""

    def __init__(self, folder: Path, url: str, board: str, endpoint: str) -> None:
        script = {"scenes": [{"turns": [call("add", a=1, b=2), "three"]}]}
        (folder / "model.json").write_text(json.dumps(script))
        (folder / "abilities.py").write_text(ABILITIES)
        self.on = ["--url", url, "--board", board]
        self.env = {
            "ARBITER_DATA_DIR": str(folder / "data"), "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
            "OTEL_BSP_SCHEDULE_DELAY": "20", "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
        }  # fmt: skip
        planner = ["serve", "--roles", "arbiter", "--model", f"scripted:{folder / 'model.json'}", *self.on]
        worker = ["worker", "--capabilities", str(folder / "abilities.py"), *self.on]
        self.planner = Running(*planner, env={**self.env, "OTEL_SERVICE_NAME": "planner"})
        self.worker = Running(*worker, env=self.env)

    def __enter__(self) -> Pair:
        for each in (self.planner, self.worker):
            each.wait_for("ready")
        return self

    def __exit__(self, *_: object) -> None:
        for each in (self.planner, self.worker):
            each.__exit__()

    def run(self) -> str:
        """The id of a run that was answered."""
        words = ["submit", "add", "--json", *self.on]
        (said,) = records(arbiter(*words, env={"ARBITER_DATA_DIR": self.env["ARBITER_DATA_DIR"]}).stdout)
        run = said["run_id"]
        until(lambda: json.loads(arbiter("show", run, "--json", *self.on).stdout)["status"] == "succeeded", "the run")
        return run

    def stop(self) -> list[int]:
        for each in (self.planner, self.worker):
            each.signal(signal.SIGTERM)
        return [each.end() for each in (self.planner, self.worker)]


def test_two_processes_make_one_trace(
    tmp_path: Path, redis_server: RedisServer, board_name: str, collector: Collector
) -> None:
    with Pair(tmp_path, redis_server.url, board_name, collector.url) as pair:
        run = pair.run()
        assert pair.stop() == [0, 0]  # what was not sent yet is sent at the end
    trace_id, root_id = tracing.ids(events.source("arbiter", board_name), run)
    assert {int.from_bytes(span.trace_id) for _, span in collector.spans} == {trace_id}
    names = {span.span_id: span.name for _, span in collector.spans}
    assert len(names) == len(collector.spans)
    chat = next(name for name in names.values() if name.startswith("chat "))
    assert sorted((service, names.get(span.parent_span_id, ""), span.name) for service, span in collector.spans) == sorted(
        [
            ("planner", "", "run"), ("planner", "run", "plan"), ("planner", "plan", chat), ("planner", "run", "plan"),
            ("planner", "plan", chat), ("arbiter", "run", "execute_tool add"),
            ("arbiter", "execute_tool add", "load add"),
        ]
    )  # fmt: skip
    assert names[root_id.to_bytes(8)] == "run"


@pytest.mark.parametrize("trouble", ["refuses", "answers with an error"])
def test_a_collector_that_is_not_there_costs_no_run_and_no_end(
    tmp_path: Path, redis_server: RedisServer, board_name: str, trouble: str
) -> None:
    failing = Collector(503)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # bound and not listened on: nobody else can take it
        nowhere = f"http://127.0.0.1:{free.getsockname()[1]}"
        with Pair(tmp_path, redis_server.url, board_name, nowhere if trouble == "refuses" else failing.url) as pair:
            pair.run()
            assert pair.stop() == [0, 0]
    failing.close()
    assert not [line for line in [*pair.planner.said, *pair.worker.said] if "Traceback" in line]
