"""torchrun, with an end that can be told apart: takes its arguments, ends with the exit code that matters.

    python -m workers.training.launch --nproc-per-node=2 ... script.py

WINDLASS_NODES says on how many machines or pods it runs at once; they meet at WINDLASS_RENDEZVOUS (host:port of the
first), WINDLASS_NODE_RANK says which this one is, and WINDLASS_ADDRESS is its own address.

torchrun itself ends with 1 and a trace of its own after SIGTERM and after any failure. This ends with 143 after
SIGTERM (once the processes had 30 s to write a checkpoint), and else with the exit code of the process that failed
first, 128 + n for one that signal n killed. Where the other nodes are gone it ends with 129, as if it was killed with
them.
"""

from __future__ import annotations

import ctypes
import fcntl
import io
import os
import signal
import socket
import struct
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import torch.distributed
from torch.distributed import run
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.elastic.rendezvous import RendezvousError

GRACE_SECONDS = 30.0
JOIN_SECONDS = 300
HUNG_UP = 128 + signal.SIGHUP
_SIOCGIFCONF, _INTERFACES, _IFREQ_BYTES = 0x8912, 128, 40


def main(arguments: list[str]) -> int:
    # A store shared by all attempts keeps the addresses of the processes that are gone, and a restart meets those:
    # it fails or hangs (github.com/pytorch/pytorch/issues/135712).
    os.environ.setdefault("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
    os.environ.setdefault("TORCHELASTIC_LOG_LINE_PREFIX_TEMPLATE", "[${role_name}${rank}]:")  # not the local rank
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # --tee writes here: whoever follows the log waits for it
    several = int(os.environ.get("WINDLASS_NODES", "1")) > 1
    if several and (name := interface_of(os.environ.get("WINDLASS_ADDRESS", ""))):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", name)  # gloo would take the address that the host's name leads to
    try:
        run.main([*where_to_meet(os.environ), *arguments])
    except SignalException as stop:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _end_children()
        return 128 + int(stop.sigval)
    except (RendezvousError, torch.distributed.DistError) as error:
        why = str(error) or type(error).__name__
        print(f"The other nodes of the run are gone, or never came: {why}", file=sys.stderr, flush=True)
        return HUNG_UP
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        code = int(failure.exitcode)
        how = f"ended with exit code {code}" if code >= 0 else f"was killed by {signal.Signals(-code).name}"
        print(f"Rank {rank} {how}; its last lines are above.", file=sys.stderr, flush=True)
        return code if code >= 0 else 128 - code
    return 0


def where_to_meet(environment: Mapping[str, str]) -> list[str]:
    """torchrun's arguments for one node (this machine's loopback), or for several (c10d, with the store at the first).

    torch ranks its nodes in the order of the addresses that they give for themselves, and uses that of the first alone:
    so the others give a word that sorts behind it, and rank 0 is where its files are looked for.
    """
    nodes = int(environment.get("WINDLASS_NODES", "1"))
    if nodes == 1:
        return ["--standalone", "--local-addr=127.0.0.1"]
    meeting, rank = environment["WINDLASS_RENDEZVOUS"], int(environment["WINDLASS_NODE_RANK"])
    return [
        f"--nnodes={nodes}",
        "--rdzv-backend=c10d",
        f"--rdzv-endpoint={meeting}",
        f"--rdzv-id={environment['WINDLASS_RENDEZVOUS_ID']}",
        # Also for a word from the store: it may come up later, and a network that is cut for a minute comes back.
        f"--rdzv-conf=is_host={int(rank == 0)},join_timeout={JOIN_SECONDS},read_timeout={JOIN_SECONDS}",
        f"--local-addr={meeting.rpartition(':')[0] if rank == 0 else f'~{rank:04}'}",
    ]


def interface_of(address: str) -> str:
    """The network interface that has this IPv4 address; "" if none has."""
    entries = bytearray(_INTERFACES * _IFREQ_BYTES)
    where = (ctypes.c_char * len(entries)).from_buffer(entries)
    asked = struct.pack("iL", len(entries), ctypes.addressof(where))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        (length, _place) = struct.unpack("iL", fcntl.ioctl(any_socket.fileno(), _SIOCGIFCONF, asked))
    for begin in range(0, length, _IFREQ_BYTES):
        name = bytes(entries[begin : begin + 16]).partition(b"\0")[0].decode()
        if socket.inet_ntoa(bytes(entries[begin + 20 : begin + 24])) == address:
            return name
    return ""


def _end_children() -> None:
    """torchrun forgets those that it is just starting when the signal comes, and all at a second signal."""
    children = {int(pid) for thread in Path("/proc/self/task").glob("*/children") for pid in thread.read_text().split()}
    deadline = time.monotonic() + GRACE_SECONDS
    for child in children:
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGTERM)
    while children:
        if time.monotonic() > deadline:
            for child in children:
                os.kill(child, signal.SIGKILL)
        time.sleep(0.02)
        children = {child for child in children if _lives(child)}


def _lives(child: int) -> bool:
    try:
        return os.waitpid(child, os.WNOHANG) == (0, 0)
    except ChildProcessError:
        return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
