"""All attacks, family by family."""

from __future__ import annotations

from attack import Attack

from attacks import (
    broker,
    channel,
    credentials,
    deserialisation,
    filesystem,
    interpreter,
    kernel,
    machine,
    memory,
    native,
    network,
    persistence,
    processes,
    resources,
)

FAMILIES = (
    interpreter.FAMILY,
    filesystem.FAMILY,
    network.FAMILY,
    processes.FAMILY,
    resources.FAMILY,
    channel.FAMILY,
    persistence.FAMILY,
    credentials.FAMILY,
    broker.FAMILY,
    deserialisation.FAMILY,
    native.FAMILY,
    kernel.FAMILY,
    memory.FAMILY,
    machine.FAMILY,
)
ATTACKS: dict[str, Attack] = {
    f"{family.name}-{attack.name}": attack for family in FAMILIES for attack in family.attacks
}
