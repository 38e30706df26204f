"""The command ``arbiter``.

``parser``        what can be said on the command line: ``parser_runs`` about runs, ``parser_peers`` about peers,
                  ``parser_agenda`` about agendas, ``parser_capabilities`` about capabilities, ``parser_board`` about the rest,
                  ``words`` what several commands share,
                  ``examples`` how each is used, ``mistakes`` what a wrong line is answered with
``options``       from words to values: requests, limits, capabilities, places
``output``        what goes to standard output: text for people, JSON lines for programs
``json_log``      the log as JSON lines
``runs``          run, submit, call, rerun, runs, show, events
``why``           why
``dead``          dead list, show, redrive, discard
``daemon``        serve, worker, down
``retention``     prune
``doctor``        doctor
``archive``       export, import, events --archive
``capabilities``  capabilities, capabilities show, search, duplicates
``approvals``     approvals, approvals show, approve, refuse, answer
``callbacks``     callback complete, fail, heartbeat
``peers``         peers list, check
``exporting``     serve-mcp
``openapi``       openapi
``evaluation``    eval matching
``budgets``       budgets, budgets show, budgets set
``tokens``        tokens list, create, revoke
``audit``         audit
``asking``        ask
``agenda``        agenda list, explain, recommend, promote, block, unblock, rerate, focus
``entries``       entries post, read, query, watch, amend, retract, take, schema
``schedules``     schedule add, list, show, remove, enable, disable, run
``demonstration`` demo

Results go to standard output, progress and errors to standard error. Exit codes: 0 done, 1 the run did not succeed, 2 it
could not be done as asked, 70 a defect in this program, 130 interrupted, 143 terminated.
"""

from __future__ import annotations

import argparse
import asyncio
import errno
import functools
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable, Coroutine, Sequence
from importlib import import_module
from typing import Any

_FULL = (errno.ENOSPC, errno.EDQUOT)
OK, NOT_SUCCEEDED, REFUSED, DEFECT, INTERRUPTED, TERMINATED = 0, 1, 2, 70, 130, 143


Command = Callable[[argparse.Namespace], Coroutine[Any, Any, int]]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the words behind ``arbiter``. Default: those of this process.

    Returns:
        The exit code. Every failure has been told on standard error, in one line; ``ARBITER_DEBUG=1`` adds the traceback.
    """
    from arbiter.cli.parser import parse

    _open_streams()
    arguments = parse(argv)
    module, _, function = arguments.command.partition(":")
    try:
        done = getattr(import_module(module), function)(arguments)
        code: int = asyncio.run(done) if asyncio.iscoroutine(done) else done
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        _abandon_output()  # the reader has seen enough
        return OK
    except SystemExit as ended:
        if not isinstance(ended.__context__, BrokenPipeError):
            raise
        return OK  # as rich tells that, which has abandoned the output
    except (KeyboardInterrupt, asyncio.CancelledError):
        return INTERRUPTED
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _FULL:
            _abandon_output()
        return _told(error)


def attended(command: Command) -> Command:
    """A command that may take long: SIGTERM ends it as orderly as an interruption does."""

    @functools.wraps(command)
    async def under_signals(arguments: argparse.Namespace) -> int:
        task = asyncio.ensure_future(command(arguments))
        received: list[int] = []

        def stop(number: int) -> None:
            received.append(number)
            task.cancel()

        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop, number)
        try:
            return await task
        except asyncio.CancelledError:
            if not received:
                raise
            return TERMINATED if received[0] == signal.SIGTERM else INTERRUPTED

    return under_signals


def _open_streams() -> None:
    """Give a process that was started without an output (``>&-``) one that nobody reads."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115


def _abandon_output() -> None:
    """What is still buffered must not fail again when the interpreter ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _told(error: Exception) -> int:
    from arbiter.cli.output import note
    from arbiter.narration import one_line
    from blackboard.errors import ArbiterError, UnknownRecord

    if os.environ.get("ARBITER_DEBUG", "") not in ("", "0"):
        note("".join(traceback.format_exception(error)).rstrip("\n"), logging.ERROR)
    if isinstance(error, UnknownRecord):
        said, code = _sentence(error.detail), REFUSED
    elif isinstance(error, ArbiterError):
        said, code = str(error), REFUSED
    elif isinstance(error, TimeoutError):
        said, code = str(error) or "it took too long", NOT_SUCCEEDED
    elif isinstance(error, OSError) and error.errno in _FULL:
        said, code = f"could not write all of it: {error.strerror}", REFUSED
    else:
        said = f"internal error: {type(error).__name__}: {error}. Set ARBITER_DEBUG=1 to see where."
        code = DEFECT
    note(f"error: {one_line(said, 2000)}", logging.ERROR)
    return code


def _sentence(detail: str) -> str:
    if detail.startswith("no run"):
        return f"{detail}. List what is there with: arbiter runs"
    if detail.startswith("no schedule"):
        return f"{detail}. List what is there with: arbiter schedule list"
    return detail
