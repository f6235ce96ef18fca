"""A system call filter for caged services: the one socket they are given must not become a way out.

A service's listening socket belongs to the host's network. Its program could reset that very socket
(`connect` to no address, or `shutdown`) and connect it to a port of this machine, past the cage's empty network.
So no caged service connects anywhere: `connect`, `bind`, `io_uring` and TCP fast open answer "not permitted".
A service needs none of them; what it listens on is given to it.
"""

from __future__ import annotations

import errno
import os
import struct

_LOAD, _EQUAL, _AT_LEAST, _HAS_BITS, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _DENY = 0x7FFF0000, 0x00050000 | errno.EPERM
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
_X32_BIT, _FAST_OPEN = 0x40000000, 0x20000000

# machine: (audit architecture, calls that are denied, {call: which argument holds its flags})
_MACHINES = {
    "x86_64": (
        0xC000003E,
        (42, 49, 425),
        {44: 3, 46: 2, 307: 3},
    ),  # connect bind io_uring_setup; sendto sendmsg sendmmsg
    "aarch64": (0xC00000B7, (203, 200, 425), {206: 3, 211: 2, 269: 3}),
}


def no_way_out() -> int | None:
    """A descriptor to read the filter from (for bubblewrap's --seccomp), or None on a machine it isn't written for."""
    machine = _MACHINES.get(os.uname().machine)
    if machine is None:
        return None
    descriptor = os.memfd_create("no-way-out", 0)
    os.write(descriptor, _program(*machine))
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _program(architecture: int, denied: tuple[int, ...], flagged: dict[int, int]) -> bytes:
    """Classic BPF. Jumps count the instructions to skip, if true and if false; the last two are the verdicts."""
    steps: list[tuple[int, int, int, int]] = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _DENY),
        (_LOAD, 0, 0, _NUMBER),
        (_AT_LEAST, 0, 1, _X32_BIT),
        (_RETURN, 0, 0, _DENY),
    ]
    for number in denied:
        steps += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _DENY)]
    for number, argument in flagged.items():
        steps += [
            (_EQUAL, 0, 4, number),
            (_LOAD, 0, 0, _ARGUMENTS + 8 * argument),
            (_HAS_BITS, 0, 1, _FAST_OPEN),
            (_RETURN, 0, 0, _DENY),
            (_RETURN, 0, 0, _ALLOW),
        ]
    steps.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("HBBI", *step) for step in steps)
