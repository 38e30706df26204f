"""Attacks over the network: every family of socket there is, and descriptors that are sockets already."""

from __future__ import annotations

import os
import socket
import struct

from attack import Family, root_only, told

FAMILY = Family("network", {"shows": "A listener of the test was reached."})
attack = FAMILY.attack


def _no_vsock() -> str | None:
    try:
        socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM).close()
    except OSError as error:
        return f"this kernel has no vsock: {error}"
    return None


def _no_mptcp() -> str | None:
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262).close()
    except OSError as error:
        return f"this kernel has no multipath TCP: {error}"
    return None


def _no_ipv6() -> str | None:
    try:
        with socket.socket(socket.AF_INET6) as end:
            end.bind(("::1", 0))
    except OSError as error:
        return f"no IPv6 here: {error}"
    return None


attack(
    "tcp",
    tries="Connects to a port of the loopback interface and sends something.",
    layers=("network", "landlock", "seccomp"),
    body="socket.create_connection(('127.0.0.1', w['tcp']), 1).sendall(b'out')",
)
attack(
    "udp",
    tries="Sends a datagram to a port of the loopback interface.",
    layers=("network", "seccomp"),
    body="socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'out', ('127.0.0.1', w['udp']))",
)
attack(
    "ipv6",
    tries="Does the same over IPv6, also with an IPv4 address mapped into it.",
    layers=("network", "seccomp"),
    needs=_no_ipv6,
    body="""
    for address in ("::1", "::ffff:127.0.0.1"):
        attempt(lambda: socket.create_connection((address, w["tcp6"]), 0.5).sendall(b"out"))
        attempt(lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).sendto(b"out", (address, w["udp6"])))
    """,
)
attack(
    "asyncio_connection",
    tries="Opens a connection through an event loop.",
    layers=("network", "landlock", "seccomp"),
    body="""
    import asyncio
    async def handler(w):
        reader, writer = await asyncio.open_connection("127.0.0.1", w["tcp"])
        writer.write(b"out")
        await writer.drain()
    """,
)
attack(
    "metadata_address",
    tries="Addresses the cloud's metadata service, 169.254.169.254.",
    layers=("network", "seccomp"),
    shows="A socket of the machine has that address as its peer.",
    watched=True,
    body="""
    mark(w)
    end = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    end.connect(("169.254.169.254", w["port"]))
    time.sleep(0.2)
    """,
)
attack(
    "dns_query",
    tries="Sends a DNS query that carries data in its name.",
    layers=("network", "seccomp"),
    body="""
    name = b"".join(bytes([len(part)]) + part for part in (w["token"].encode(), b"example", b"com")) + b"\\0"
    query = struct.pack(">HHHHHH", 7, 0x100, 1, 0, 0, 0) + name + struct.pack(">HH", 1, 1)
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(query, ("127.0.0.1", w["udp"]))
    """,
)
attack(
    "abstract_socket",
    tries="Connects to a UNIX socket in the abstract namespace.",
    layers=("network", "landlock", "seccomp"),
    body="""
    end = socket.socket(socket.AF_UNIX)
    end.connect("\\0" + w["abstract"])
    end.sendall(b"out")
    """,
)
attack(
    "redis_socket",
    tries="Connects to the UNIX socket of Redis and asks it for its configuration.",
    layers=("box", "seccomp"),
    body="""
    end = socket.socket(socket.AF_UNIX)
    end.connect(w["path"])
    end.sendall(b"CONFIG GET requirepass\\r\\n")
    """,
)
attack(
    "path_datagram",
    tries="Sends a datagram to a UNIX socket with a path, as to a system log.",
    layers=("box", "seccomp"),
    body="socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b'out', w['dgram'])",
)
attack(
    "socketpair_readdressed",
    tries="Makes a pair of datagram sockets, which is harmless, and sends from one of them to somebody else.",
    layers=("box", "seccomp"),
    body="""
    for kind in (socket.SOCK_DGRAM, socket.SOCK_SEQPACKET, socket.SOCK_STREAM, socket.SOCK_RAW):
        pair = attempt(socket.socketpair, socket.AF_UNIX, kind)
        for end in pair or ():
            attempt(end.sendto, b"out", w["dgram"])
            attempt(end.sendmsg, [b"out"], [], 0, w["dgram"])
            attempt(end.connect, w["dgram"])
            attempt(end.send, b"out")
            attempt(end.connect, "\\0" + w["abstract"])
    """,
)
attack(
    "channel_readdressed",
    tries="Uses its own channel, which is a socket, to connect or send to another address, or under a name of its own.",
    watched=True,
    layers=("network", "seccomp"),
    body="""
    mark(w)
    end = socket.socket(fileno=os.dup(3))
    attempt(end.connect, w["path"])
    attempt(end.sendto, b"out", w["dgram"])
    attempt(end.bind, "\\0" + w["token"])
    attempt(end.listen)
    time.sleep(0.15)
    """,
)
attack(
    "netlink",
    tries="Asks the kernel for the machine's interfaces over netlink.",
    layers=("network", "seccomp"),
    shows="A hardware address of the machine is in the result.",
    body="""
    end = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
    end.settimeout(1)
    end.send(struct.pack("IHHIIBxHiII", 32, 18, 0x301, 1, 0, 0, 0, 0, 0, 0))
    found = []
    for _ in range(10):
        data = (attempt(end.recv, 1 << 16) or b"").hex()
        found += [":".join(data[at:at + 12][n:n + 2] for n in range(0, 12, 2)) for at in range(0, len(data), 8)]
        end.settimeout(0.02)
    return found
    """,
)
attack(
    "interface_address",
    tries="Asks for the machine's address with an ioctl on a datagram socket.",
    layers=("network", "seccomp"),
    shows="The machine's address is in the result.",
    body="""
    import fcntl
    end = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    found = []
    for _, name in socket.if_nameindex():
        reply = attempt(fcntl.ioctl, end, 0x8915, struct.pack("256s", name.encode()))
        found.append(reply and socket.inet_ntoa(reply[20:24]))
    return found
    """,
)
attack(
    "raw_socket",
    tries="Builds a datagram by hand on a raw socket.",
    layers=("privileges", "network", "seccomp"),
    open_on=("process",),
    needs=root_only,
    body="""
    end = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP)
    end.sendto(struct.pack(">HHHH", 9, w["udp"], 11, 0) + b"out", ("127.0.0.1", 0))
    """,
)
attack(
    "packet_socket",
    tries="Opens a packet socket, which sees and sends whole frames.",
    layers=("privileges", "network", "seccomp"),
    open_on=("process",),
    shows="It was given one.",
    needs=root_only,
    shown=told,
    body="""
    socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    return w["token"]
    """,
)
attack(
    "vsock",
    tries="Opens a socket to the hypervisor.",
    layers=("seccomp",),
    shows="It was given one.",
    needs=_no_vsock,
    shown=told,
    body="""
    socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    return w["token"]
    """,
)
attack(
    "multipath_tcp",
    tries="Connects with multipath TCP, which Landlock's rules for TCP do not cover.",
    layers=("network", "seccomp"),
    needs=_no_mptcp,
    body="""
    end = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)
    end.connect(("127.0.0.1", w["tcp"]))
    end.sendall(b"out")
    """,
)
attack(
    "odd_families",
    tries="Asks for a socket of every family and kind there is, besides those with attacks of their own.",
    layers=("seccomp",),
    shows="It was given one.",
    shown=told,
    body="""
    given = []
    for family in range(1, 47):
        if family in (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_VSOCK):
            continue
        for kind in (1, 2, 3, 5):
            if attempt(socket.socket, family, kind) is not None:
                given.append(family)
    return given and [w["token"], given]
    """,
)
attack(
    "listening",
    tries="Listens on a port of the machine.",
    layers=("network", "landlock", "seccomp"),
    shows="The test could connect to it.",
    watched=True,
    body="""
    mark(w)
    end = socket.socket()
    end.bind(("0.0.0.0", w["bind_port"]))
    end.listen()
    end.settimeout(0.5)
    end.accept()
    time.sleep(0.1)
    """,
)
attack(
    "abstract_listening",
    tries="Listens in the abstract namespace of the machine, where a later attempt could find it.",
    layers=("network", "seccomp"),
    shows="The name is among the machine's UNIX sockets.",
    watched=True,
    body="""
    mark(w)
    end = socket.socket(socket.AF_UNIX)
    end.bind("\\0" + w["token"])
    end.listen()
    time.sleep(0.2)
    """,
)
attack(
    "inherited_sockets",
    tries="Writes to every descriptor it finds open.",
    layers=("descriptors",),
    open_on=("naive",),
    body="""
    for fd in range(4, 1024):
        attempt(lambda: os.write(fd, b"out"))
        attempt(lambda: socket.socket(fileno=os.dup(fd)).send(b"out"))
    """,
)


def _no_out_of_band() -> str | None:
    mine, other = socket.socketpair()
    with mine, other:
        try:
            mine.send(b"x", socket.MSG_OOB)
        except OSError as error:
            return f"this kernel has no urgent data on local sockets: {error}"
    return None


def _no_peer_descriptor() -> str | None:
    mine, other = socket.socketpair()
    with mine, other:
        try:
            os.close(struct.unpack("i", mine.getsockopt(socket.SOL_SOCKET, _PEER, 4))[0])
        except OSError as error:
            return f"this kernel gives no descriptor of a peer: {error}"
    return None


_PEER = 77
"""SO_PEERPIDFD."""

attack(
    "urgent_data",
    tries="Sends urgent data on a local socket, a corner in which kernels were broken from inside sandboxes.",
    layers=("seccomp",),
    shows="It was let into that corner.",
    shown=told,
    needs=_no_out_of_band,
    body="""
    mine, other = socket.socketpair()
    if attempt(mine.send, b"x", socket.MSG_OOB) or attempt(other.recv, 1, socket.MSG_OOB):
        return w["token"]
    """,
)
attack(
    "descriptor_of_the_peer",
    tries="Asks its channel for a descriptor of the process that made it, and stops that process.",
    layers=("box", "landlock", "seccomp"),
    shows="The zygote is stopped.",
    needs=_no_peer_descriptor,
    body="""
    end = socket.socket(fileno=os.dup(3))
    found = attempt(end.getsockopt, socket.SOL_SOCKET, 77, 4)
    if found:
        syscall("pidfd_send_signal", struct.unpack("i", found)[0], int(signal.SIGSTOP), None, 0)
    """,
)
