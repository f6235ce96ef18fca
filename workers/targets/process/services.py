"""A service: N replicas, each on a port of its own, probed, restarted with backoff, drained when fewer are wanted."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal

from apps.placements.observation import Exit, Rank
from workers.targets.process.copies import Copy
from workers.targets.process.probes import Asking, listening, placeholder

if TYPE_CHECKING:
    from workers.targets.process.shim import Shim

FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS, GOOD_SECONDS = 0.2, 30.0, 60.0
UNREADY_FAILURES, RESTART_FAILURES = 3, 10
STUCK_GRACE_SECONDS = 5.0


class Replica:
    """One ordinal: its port for as long as it is wanted, and the copy that runs on it just now."""

    def __init__(self, shim: Shim, ordinal: int, port: int) -> None:
        self.shim, self.ordinal = shim, ordinal
        self.held = placeholder(shim.spec.address, port)
        self.port: int = self.held.getsockname()[1]
        self.copy: Copy | None = None
        self.wanted = True
        self.state: Literal["starting", "running", "ready", "backoff", "draining", "exited"] = "starting"
        self.restarts = 0
        self.message = ""
        self._falls = 0
        self._misses = 0
        self._was_ready = False
        self._asking: Asking | None = None

    @property
    def rank(self) -> Rank:
        return Rank(self.ordinal, self.state, self.shim.spec.address, self.port, self.restarts, self.message)

    def start(self) -> None:
        if not self.wanted or self.copy:
            return
        self.state, self._misses, self._was_ready = "starting", 0, False
        shim = self.shim
        self.copy = copy = Copy(shim.loop, shim.files, shim.spec, self.ordinal, False, self._ended)
        shim.save()
        copy.start(listening(shim.spec.address, self.port))
        shim.save()
        self._probe(copy)

    def drain(self, grace_seconds: float, cause: Literal["scale", "stop", "resume"]) -> None:
        self.wanted = False
        if self.copy:
            self.state = "draining"
            self.copy.end(cause, grace_seconds)
        else:
            self._release()

    def _release(self) -> None:
        self.held.close()
        self.shim.service.forget(self)

    def _ended(self, exit: Exit) -> None:
        assert self.copy
        lasted, log, self.copy = time.monotonic() - self.copy.started_at, self.copy.log, None
        if self._asking:
            self._asking.cancel()
            self._asking = None
        if not self.wanted:
            return self._release()
        self._falls = 0 if lasted >= GOOD_SECONDS else self._falls + 1
        wait = min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2 ** min(self._falls - 2, 20)) if self._falls > 1 else 0.0
        self.restarts += 1
        self.message = exit.message or "The program ended by itself; a service's program should go on."
        again = f"starting again in {wait:.3g} seconds" if wait else "starting again"
        log.note(f"{self.message} Restart {self.restarts}: {again}.")
        self.state = "backoff" if wait else "starting"
        self.shim.save()
        self.shim.loop.after(wait, self.start)

    def _probe(self, copy: Copy) -> None:
        """Ask whether it is ready, again and again for as long as this copy runs."""
        probe = self.shim.spec.workload.probe
        if self.copy is not copy or not copy.running:
            return
        if probe is None:
            return self._become_ready(True)

        def answered(good: bool) -> None:
            self._asking = None
            if self.copy is copy and self.wanted:
                self._become_ready(good)
                pause = probe.period_seconds if good or self._was_ready else min(0.05, probe.period_seconds)
                self.shim.loop.after(pause, lambda: self._probe(copy))

        self._asking = Asking(self.shim.loop, (self.shim.spec.address, self.port), probe, answered)

    def _become_ready(self, good: bool) -> None:
        before = self.state
        if good:
            self._misses, self._was_ready, self.state, self.message = 0, True, "ready", ""
        elif self._was_ready:
            self._misses += 1
            if self._misses >= UNREADY_FAILURES:
                self.state = "running"
                self.message = "It no longer answers its health check."
            if self._misses == RESTART_FAILURES and self.copy:
                self.copy.end("liveness", STUCK_GRACE_SECONDS)
        if self.state != before:
            self.shim.save()


class Service:
    """Keeps as many replicas as the spec says, with the ports that they had before this shim."""

    def __init__(self, shim: Shim, ports: dict[str, int]) -> None:
        self._shim = shim
        self._ports = ports
        self._replicas: dict[int, Replica] = {}
        self._stopping = False

    def begin(self) -> None:
        self._shim.enter("running")
        self.scale()

    def scale(self) -> None:
        """Start what is missing, drain what is too much: the highest ordinals first."""
        if self._stopping:
            return
        wanted = self._shim.spec.workload.replicas
        for replica in sorted(self._replicas.values(), key=lambda replica: -replica.ordinal):
            if replica.ordinal >= wanted and replica.wanted:
                replica.drain(self._shim.spec.workload.grace_seconds, "scale")
        for ordinal in range(wanted):
            if ordinal not in self._replicas:  # one that still drains is started again when it has ended
                self._replicas[ordinal] = Replica(self._shim, ordinal, self._ports.pop(str(ordinal), 0))
                self._replicas[ordinal].start()
        self._shim.save()

    def stop(self, grace_seconds: float, cause: Literal["stop", "resume"]) -> None:
        self._stopping = True
        for replica in list(self._replicas.values()):
            replica.drain(grace_seconds, cause)
        self._maybe_end()

    def forget(self, replica: Replica) -> None:
        del self._replicas[replica.ordinal]
        self._ports[str(replica.ordinal)] = replica.port  # to have again, if it is free then
        if self._stopping:
            self._maybe_end()
        else:
            self.scale()

    def fill_disk(self) -> None:
        for copy in self.copies:
            copy.end("disk", 0)

    def _maybe_end(self) -> None:
        self._shim.save()
        if not self._replicas:
            self._shim.service_ended()

    @property
    def copies(self) -> list[Copy]:
        return [replica.copy for replica in self._replicas.values() if replica.copy]

    @property
    def ranks(self) -> tuple[Rank, ...]:
        return tuple(self._replicas[ordinal].rank for ordinal in sorted(self._replicas))

    @property
    def ports(self) -> dict[str, int]:
        return {**self._ports, **{str(replica.ordinal): replica.port for replica in self._replicas.values()}}

    @property
    def ready(self) -> bool:
        return len(self._replicas) > 0 and all(rank.state in ("ready", "draining") for rank in self.ranks)
