"""Measures what the framework costs, each number beside a named alternative or limit measured in the same run.

    python -m benchmarks                 # everything
    python -m benchmarks --quick         # everything smaller and rougher
    python -m benchmarks --only board    # one of those below

It starts its own throw-away servers and needs no account and no network. What each row means is in
``docs/benchmarks.md``. Not part of the installed package.

================  ==================================================================
file              question it answers
================  ==================================================================
``board``         what does a task cost on the board, against bare Redis?
``workers``       how much do several worker processes get done?
``comparison``    and other task queues, on the same server? (``--only peers``)
``recovery``      how long until somebody else has the task of a killed worker?
``load``          what do many finished and waiting runs cost?
``idle``          what does a daemon that has nothing to do use?
``noisy``         how long does one task wait behind somebody else's many?
``rounds``        what does a round of a run cost, against a bare Strands agent?
``isolation``     what does it cost to load and call code in a process of its own?
``startup``       how long until a program can begin, and until its first answer?
``history``       do space and time grow linearly with the rounds of a run?
``conversation``  and with a conversation of many tokens?
``schedules``     how late does a schedule fire?
``matching``      how fast is a capability found among very many, and at what cost?
``failover``      what does a failover cost and lose? (on its own)
``peers``         the other queues' own code, one file each
``raw``           bare Redis as a unit
``processes``     programs that take part
``measure``       how are samples taken in turn, and what is reported of them?
``report``        how are rows shown?
``machine``       on what was it measured?
``model``         the model that answers at once
================  ==================================================================
"""
