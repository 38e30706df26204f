"""Stands in a shell for the command ``arbiter``, which a process does that has it imported already: see :mod:`warm_cli`.

It hands over its words, environment, folder and streams, passes signals on, and ends as the command did.
"""

import array
import fcntl
import json
import os
import signal
import socket
import sys

channel = socket.socket(fileno=int(os.environ.pop("ARBITER_TEST_WARM")))
ours, theirs = socket.socketpair()
message = json.dumps({"words": sys.argv[1:], "environment": dict(os.environ), "folder": os.getcwd()}).encode()
rights = array.array("i", [theirs.fileno(), 0, 1, 2])
with open(__file__) as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)  # two of a pipe ask at the same time
    channel.sendmsg([len(message).to_bytes(8, "big"), message], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
theirs.close()
answers = ours.makefile("r")
child = int(answers.readline())
# For whoever ends this shell: the child is in no group of it.
mark = os.path.join(os.path.dirname(__file__), str(child))
open(mark, "w").close()
for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(each, lambda number, _: os.kill(child, number))
code = int(answers.readline())
os.unlink(mark)
if code < 0:
    if -code != signal.SIGKILL:
        signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
raise SystemExit(code)
