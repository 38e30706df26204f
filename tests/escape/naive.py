"""How generated code is often run: one warm worker that keeps everything and a host that believes what it is told.

This is the control of the suite. An attack that even a plain single-use process stops must get through here, or its
detector proves nothing. Every trust that is misplaced is misplaced on purpose.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import glob
import json
import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, Any

import yaml

from blackboard.types import Failure, Status
from wrapper.isolation import Broker, Job, Outcome

_ROOT = str(Path(__file__).resolve().parents[2])
_WORKER = """
import base64, builtins, json, os, pickle, struct, sys, threading, traceback, types
sys.path.insert(0, sys.argv[1])
from wrapper.isolation import channel
class Open(dict):
    def pop(self, number, *_):
        return super().pop(number, None) or channel.Future()
channel.attach(channel.Channel(3))
channel.current()._open = Open()
CONFIGURATION = dict(os.environ)
lock = threading.Lock()
def serve(run):
    name = "capability"
    try:
        module = types.ModuleType(name)
        sys.modules[name] = module
        exec(compile(run["source"].encode(), name, "exec"), module.__dict__)
        done = {"value": module.handler(**run["input"])}
    except BaseException:
        error = sys.exc_info()[1]
        done = {"error": traceback.format_exc() if not isinstance(error, SystemExit) else "exit"}
        if not isinstance(error, Exception):
            os._exit(0)
        try:
            done["pickle"] = base64.b64encode(pickle.dumps(error)).decode()
        except Exception:
            pass
    try:
        body = json.dumps({"t": "done", **done})
    except Exception:
        try:
            body = json.dumps({"t": "done", "pickle": base64.b64encode(pickle.dumps(done["value"])).decode()})
        except Exception as error:
            body = json.dumps({"t": "done", "error": str(error)})
    data = body.encode("utf-8", "surrogatepass")
    data = struct.pack(">I", len(data)) + data
    with lock:
        while data:
            data = data[os.write(3, data):]
stdin = os.fdopen(os.dup(0), "rb")
for line in stdin:
    threading.Thread(target=serve, args=(json.loads(line),), daemon=True).start()
"""


class NaiveIsolation:
    """Implements :class:`~wrapper.isolation.Isolation`, wrongly.

    Args:
        leaked: descriptors of the host the worker inherits by mistake.
    """

    label = "naive"
    parked = 0

    def __init__(self, leaked: tuple[int, ...] = ()) -> None:
        self._leaked = leaked
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket
        self._out: IO[bytes]
        self._err: IO[bytes]
        self._pump: asyncio.Task[None] | None = None
        self._waiting: list[tuple[asyncio.Future[dict[str, Any]], Broker | None]] = []
        self._answers: set[asyncio.Task[None]] = set()
        self.kept_fds: list[int] = []
        self._folder = ""
        self._sending = asyncio.Lock()

    @property
    def zygote_pid(self) -> int | None:
        """The worker."""
        return None if self._process is None else self._process.pid

    async def start(self) -> None:
        """Start the worker, with the host's environment and whatever it left open."""
        self._folder = tempfile.mkdtemp(prefix="arbiter-naive-")
        self._channel, theirs = socket.socketpair()
        self._channel.setblocking(False)
        self._out, self._err = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115
        for fd in self._leaked:
            os.set_inheritable(fd, True)

        def place() -> None:
            os.dup2(theirs.fileno(), 3)

        self._process = subprocess.Popen(  # noqa: ASYNC220
            [sys.executable, "-u", "-c", _WORKER, _ROOT],  # what it printed is there when it says that it is done
            cwd=self._folder,
            stdin=subprocess.PIPE,
            stdout=self._out,
            stderr=self._err,
            close_fds=False,
            preexec_fn=place,
        )
        theirs.close()
        self._pump = asyncio.get_running_loop().create_task(self._read())

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        process = self._process
        assert process is not None
        received = bytearray()
        ready = asyncio.Event()
        loop.add_reader(self._channel, ready.set)
        try:
            while True:
                await ready.wait()
                ready.clear()
                try:
                    data, fds, _, _ = socket.recv_fds(self._channel, 1 << 20, 250)
                except BlockingIOError:
                    continue
                self.kept_fds += fds
                if not data:
                    break
                ready.set()
                received += data
                while len(received) >= 4 and len(received) >= 4 + (size := int.from_bytes(received[:4], "big")):
                    frame = bytes(received[4 : 4 + size])
                    del received[: 4 + size]
                    self._hear(frame)
        except Exception as error:
            self._fail(error)
        finally:
            loop.remove_reader(self._channel)
        code = await asyncio.to_thread(process.wait)
        # The mistake of every wrapper that trusts an exit code.
        self._settle({"value": None} if code == 0 else {"error": f"exit code {code}"})

    def _hear(self, frame: bytes) -> None:
        said = json.loads(frame.decode("utf-8", "surrogatepass"))
        if said["t"] == "call":
            broker = self._waiting[-1][1] if self._waiting else None
            if broker is not None:
                task = asyncio.get_running_loop().create_task(self._answer(said, broker))
                self._answers.add(task)
        elif said["t"] == "done" and self._waiting:
            self._waiting.pop()[0].set_result(said)

    async def _answer(self, said: dict[str, Any], broker: Broker) -> None:
        try:
            answer: dict[str, Any] = {"value": await broker(said["method"], said["args"])}
        except Exception as error:
            answer = {"error": {"type": type(error).__name__, "message": str(error)}}
        body = json.dumps({"t": "ret", "id": said["id"], **answer}).encode()
        async with self._sending:
            try:
                await asyncio.get_running_loop().sock_sendall(self._channel, len(body).to_bytes(4, "big") + body)
            except OSError:
                pass

    def _fail(self, error: Exception) -> None:
        while self._waiting:
            self._waiting.pop()[0].set_exception(error)

    def _settle(self, said: dict[str, Any]) -> None:
        while self._waiting:
            self._waiting.pop()[0].set_result(said)

    async def run(self, job: Job, broker: Broker | None = None, cancelled: asyncio.Event | None = None) -> Outcome:
        """Hand the job to the worker; no limit, no cancel, no check of what comes back."""
        if self._process is None or self._process.poll() is not None or (self._pump is not None and self._pump.done()):
            await self.close()
            await self.start()
        assert self._process is not None
        assert self._process.stdin is not None
        started = time.monotonic()
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        out, err = os.fstat(self._out.fileno()).st_size, os.fstat(self._err.fileno()).st_size
        request = json.dumps({"source": job.source, "input": dict(job.input)}).encode("ascii", "strict") + b"\n"
        if "\ud800" in job.source:
            job.source.encode()  # raises in the host
        self._waiting.append((future, broker))
        try:
            self._process.stdin.write(request)
            self._process.stdin.flush()
            said = await future
        finally:
            self._waiting = [each for each in self._waiting if each[0] is not future]
        stdout, stderr = (
            os.pread(file.fileno(), 1 << 27, start).decode("utf-8", "replace")
            for file, start in ((self._out, out), (self._err, err))
        )
        stdout += self._collected()
        for line in stdout.splitlines()[:1000]:
            if line.startswith("RESULT: "):
                said = {"value": json.loads(line.removeprefix("RESULT: "))}
        if "pickle" in said:
            with contextlib.suppress(TypeError):  # an exception that cannot be made again
                said.setdefault("value", pickle.loads(base64.b64decode(said["pickle"])))
        value: Any = said.get("value")
        if isinstance(value, str) and value.startswith("!!python"):
            value = yaml.unsafe_load(value)
        seconds = time.monotonic() - started
        status = Status(said.get("status", "failed" if "error" in said else "succeeded"))
        if status is not Status.SUCCEEDED:
            error = Failure(type="handler_error", message=str(said.get("error", "")))
            return Outcome(status, None, error, stdout, stderr, seconds, self.label)
        return Outcome(status, value, None, stdout, stderr, seconds, self.label)

    async def close(self) -> None:
        """End the worker."""
        if self._process is None:
            return
        process, self._process = self._process, None
        process.send_signal(signal.SIGKILL)
        await asyncio.to_thread(process.wait)
        if self._pump is not None:
            await asyncio.wait([self._pump])
        for task in self._answers:
            task.cancel()
        assert process.stdin is not None
        process.stdin.close()
        self._channel.close()
        self._out.close()
        self._err.close()
        for fd in self.kept_fds:
            os.close(fd)
        self.kept_fds = []
        self._tidy()

    def _collected(self) -> str:
        """What a file with a promising name says; whatever looks temporary is removed. All by path."""
        said = ""
        path = os.path.join(self._folder, "result.json")
        if os.path.exists(path):
            said = Path(path).read_text()
            os.unlink(path)
        for name in os.listdir(self._folder):
            if name.endswith(".tmp"):
                os.unlink(os.path.join(self._folder, name))
        return said

    def _tidy(self) -> None:
        for folder in glob.glob(glob.escape(self._folder) + "*"):
            if os.path.islink(folder):
                os.unlink(folder)
            else:
                shutil.rmtree(folder, ignore_errors=True)
