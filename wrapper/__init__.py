"""The wrapper: runs one attempt at a capability and says how it ended.

* :mod:`wrapper.execute`: resolve, verify, check, run, check, report; the handler of a worker.
* :mod:`wrapper.isolation`: the walled-in, single-use process generated code is loaded, called and killed in.
* :mod:`wrapper.broker`: the model calls isolated code may make, with its grants and its meter.
* :mod:`wrapper.models`: from a model string to one whole reply; the scripted and the recorded model.
* :mod:`wrapper.context`: which task a function of the embedding program is called for.
* :mod:`wrapper.later`: how such a function says that its answer comes from outside.
* :mod:`wrapper.in_program`: the board, for functions of the embedding program.
* :mod:`wrapper.sdk`: all that generated code may import of ours.
* :mod:`wrapper.testing`: a local Bedrock endpoint for tests.

Enters: claims of capability tasks. Leaves: completions. May import ``registry`` and ``blackboard``. This file stays empty of
imports: every child process passes through it.
"""
