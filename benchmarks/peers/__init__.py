"""Other task queues doing the same no-op, each in processes of its own: ``python -m benchmarks.peers NAME ROLE``.

A module here imports the queue it is named after, the standard library and ``_count``, and nothing of ours but the board
in ``ours``: the queue may be installed in another environment than this project. Each has

* ``queue(count)``: put so many no-ops on the server,
* ``work()``: be one worker process, for ever,
* ``ask(count)``: submit one no-op and wait for its result, so many times; the seconds of each.

The server's URL is in ``BENCH_URL``, the number of queued no-ops in ``BENCH_COUNT``. What was chosen for each and what a
killed worker costs there is told in ``docs/benchmarks.md``.
"""
