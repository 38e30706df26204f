"""The system call filter, decided by an interpreter of its instructions: what it answers on both architectures."""

from __future__ import annotations

import errno
import struct

import pytest

from wrapper.isolation import seccomp, syscalls

KILL, ERRNO, ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
SELF = 77
CLONE_OF_A_THREAD, CLONE_OF_A_FORK = 0x3D0F00, 0x1200011
every_machine = pytest.mark.parametrize("machine", ["x86_64", "aarch64"])


def answer(machine: str, number: int, *args: int, audit: int | None = None, scratch: bool = True) -> int:
    """What the filter says to one call; see the kernel's description of classic BPF."""
    code = seccomp.for_pid(seccomp.program(machine, scratch=scratch, messages=False), SELF)
    data = struct.pack(
        "=IIQ6Q", number, syscalls.AUDIT[machine] if audit is None else audit, 0, *args, *[0] * (6 - len(args))
    )
    program = [struct.unpack_from("=HBBI", code, offset) for offset in range(0, len(code), 8)]
    accumulator = at = 0
    for _ in range(len(program)):  # it never jumps back
        operation, yes, no, value = program[at]
        at += 1
        match operation:
            case 0x20:
                (accumulator,) = struct.unpack_from("=I", data, value)
            case 0x54:
                accumulator &= value
            case 0x05:
                at += value
            case 0x15:
                at += yes if accumulator == value else no
            case 0x35:
                at += yes if accumulator >= value else no
            case 0x06:
                return value
            case _:
                pytest.fail(f"an instruction that is not used: {operation:#x}")
    pytest.fail("the program did not answer")


def said(machine: str, name: str, *args: int, scratch: bool = True) -> int:
    return answer(machine, syscalls.TABLES[machine][name], *args, scratch=scratch)


@every_machine
def test_what_is_listed_is_allowed_and_what_is_not_is_refused(machine: str) -> None:
    table = syscalls.TABLES[machine]
    assert said(machine, "read") == said(machine, "futex") == said(machine, "exit_group") == ALLOW
    assert said(machine, "socket", 2, 1) == ERRNO | errno.EPERM
    assert said(machine, "ptrace") == said(machine, "bpf") == said(machine, "process_vm_readv") == KILL
    assert said(machine, "clone3") == ERRNO | errno.ENOSYS
    unlisted = set(range(syscalls.HIGHEST + 1)) - set(table.values())
    assert {answer(machine, number) for number in unlisted} == {ERRNO | errno.EPERM}
    assert answer(machine, syscalls.HIGHEST + 1) == answer(machine, 1 << 20) == ERRNO | errno.ENOSYS


@every_machine
def test_another_architecture_and_x32_end_the_process(machine: str) -> None:
    assert answer(machine, 0, audit=0x40000003) == KILL
    assert answer(machine, 0x40000000) == answer(machine, 0x40000001) == answer(machine, 0xFFFFFFFF) == KILL


@every_machine
@pytest.mark.parametrize(
    ("name", "args", "allowed"),
    [
        ("clone", [CLONE_OF_A_THREAD], True),
        ("clone", [CLONE_OF_A_FORK], False),
        ("clone", [CLONE_OF_A_THREAD | 0x10000000], False),
        ("clone", [0x4111], False),
        ("sendto", [3, 1, 1, 0, 0], True),
        ("sendto", [3, 1, 1, 0, 1], False),
        ("sendto", [3, 1, 1, 0, 1 << 32], False),
        ("sendto", [3, 1, 1, 0x4040, 0], True),
        ("sendto", [3, 1, 1, 1, 0], False),
        ("recvfrom", [3, 1, 1, 0x2], True),
        ("recvfrom", [3, 1, 1, 0x1], False),
        ("getsockopt", [3, 1, 4], True),
        ("getsockopt", [3, 1, 77], False),
        ("getsockopt", [3, 6, 4], False),
        ("futex", [1, 0x189], True),
        ("futex", [1, 0x80], True),
        ("futex", [1, 0x86], False),
        ("futex", [1, 13], False),
        ("get_robust_list", [1], False),
        ("socketpair", [1, 1], True),
        ("socketpair", [1, 0x80801], True),
        ("socketpair", [1, 2], False),
        ("socketpair", [2, 1], False),
        ("kill", [SELF, 9], True),
        ("kill", [SELF + 1, 9], False),
        ("kill", [0xFFFFFFFF, 9], False),
        ("kill", [0, 9], False),
        ("tgkill", [SELF, 5, 9], True),
        ("tgkill", [1, 5, 9], False),
        ("prctl", [15], True),
        ("prctl", [22], False),
        ("prctl", [4, 1], False),
        ("prlimit64", [0, 7], True),
        ("prlimit64", [1, 7], False),
        ("fcntl", [0, 1030], True),
        ("fcntl", [0, 37], False),
        ("fcntl", [0, 5], False),
        ("fcntl", [0, 36], False),
        ("fcntl", [0, 1031], False),
        ("ioctl", [0, 0x541B], True),
        ("ioctl", [0, 0x5412], False),
        ("openat", [0, 0, 0], True),
        ("openat", [0, 0, 0o1101], True),
        ("openat", [0, 0, 0o1000], False),
        ("setsockopt", [3, 1, 9], True),
        ("setsockopt", [3, 1, 7], False),
        ("setsockopt", [3, 1, 8], False),
        ("setsockopt", [3, 1, 26], False),
        ("setsockopt", [3, 6, 1], False),
        ("sendmsg", [3], False),
    ],
)
def test_arguments_decide_where_the_number_says_too_little(
    machine: str, name: str, args: list[int], allowed: bool
) -> None:
    found = said(machine, name, *args)
    assert (found == ALLOW) is allowed
    assert found in (ALLOW, ERRNO | errno.EPERM)


@every_machine
def test_a_record_lock_is_set_for_who_asks_and_nobody_keeps_it(machine: str) -> None:
    assert said(machine, "fcntl", 3, 6) == said(machine, "fcntl", 3, 7) == ERRNO | 0


@every_machine
def test_a_terminal_is_not_there_rather_than_forbidden(machine: str) -> None:
    assert said(machine, "ioctl", 0, 0x5401) == ERRNO | errno.ENOTTY


@every_machine
@pytest.mark.parametrize("name", ["truncate", "fchmod", "fchmodat", "utimensat"])
def test_without_files_of_its_own_modes_times_and_lengths_cannot_be_changed(machine: str, name: str) -> None:
    assert said(machine, name, scratch=True) == ALLOW
    assert said(machine, name, scratch=False) == ERRNO | errno.EPERM


def test_a_machine_without_a_table_has_no_filter() -> None:
    with pytest.raises(seccomp.UnknownArchitecture, match="riscv64"):
        seccomp.program("riscv64", scratch=True)


def test_no_instruction_jumps_out_of_its_byte() -> None:
    for machine in syscalls.TABLES:
        for scratch in (True, False):
            for messages in (True, False):
                code = seccomp.program(machine, scratch=scratch, messages=messages)
                assert len(code) // 8 < 4096  # the most the kernel takes
