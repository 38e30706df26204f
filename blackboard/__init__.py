"""The blackboard: runs, tasks, leases, timers and events on Redis; every change of state is one atomic script.

* :mod:`blackboard.board`: the operations, each the typed binding of one script in ``lua/``: ``accepting`` runs, ``reading``
  them, ``working`` on tasks, ``controlling`` (cancel, pause), ``sweeping`` what is due.
* :mod:`blackboard.quotas`, :mod:`blackboard.budgets`, :mod:`blackboard.schedules`, :mod:`blackboard.retention`,
  :mod:`blackboard.dead_letters`, :mod:`blackboard.runs`: what is built on a board, one idea each.
* :mod:`blackboard.claims`, :mod:`blackboard.references`: what a worker is handed, with references to earlier results.
* :mod:`blackboard.worker`, :mod:`blackboard.attempting`, :mod:`blackboard.attempt`, :mod:`blackboard.heartbeat`,
  :mod:`blackboard.sweeper`: the claim loop and the leases of every role, what a handler sees and reports, and what does what is
  due.
* :mod:`blackboard.timings`, :mod:`blackboard.tracing`, :mod:`blackboard.current`: how long things took in this process, its
  spans, and whose attempt is at work, for whoever tells operators.
* :mod:`blackboard.events`, :mod:`blackboard.feed`, :mod:`blackboard.feed_since`, :mod:`blackboard.subscriptions`: typed
  CloudEvents, following them, what was missed, and handing each to somebody whoever dies; :mod:`blackboard.webhooks`.
* :mod:`blackboard.catalog`, :mod:`blackboard.lessons`, :mod:`blackboard.example_needs`: storage primitives of the registry, what
  it learnt from use, and what models wrote for it.
* :mod:`blackboard.engine`: what a URL stands for; the supervised local server.
* :mod:`blackboard.types`, :mod:`blackboard.errors`: the records and the error tree all rooms share.
* :mod:`blackboard.testing`: a throw-away Redis server.

Enters: requests, decisions, completions. Leaves: claims and events. Imports none of the other rooms; nobody else knows a key.
"""
