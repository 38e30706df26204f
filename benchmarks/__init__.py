"""Measures what the framework costs, each number beside a named alternative or limit measured in the same run.

    python -m benchmarks                 # everything, under three minutes
    python -m benchmarks --quick         # under 40 seconds, rougher
    python -m benchmarks --only board    # one of: board, rounds, isolation, startup, history, conversation

It starts its own throw-away servers and needs no account and no network. What each row means is in
``docs/benchmarks.md``. Not part of the installed package.

=============  =====================================================================
file           question it answers
=============  =====================================================================
``board``      what does a task cost on the board, against bare Redis?
``rounds``     what does a round of a run cost, against a bare Strands agent?
``isolation``  what does it cost to load and call code in a process of its own?
``startup``    how long until a program can begin, how long until its first answer?
``history``    do space and time grow linearly with the rounds of a run?
``measure``    how are samples taken in turn, and what is reported of them?
``report``     how are rows shown?
``machine``    on what was it measured?
``model``      the model that answers at once
=============  =====================================================================
"""
