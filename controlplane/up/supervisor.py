"""The foreground process of `make up`: starts all parts in order, keeps them running, stops them in order.

It has one thread, imports no Django, and never writes to the database. Workloads are no children of ours: they live
on when we are killed, and are adopted by the next worker.
"""

import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from controlplane import installation, join
from controlplane.configuration import PROJECT, Configuration
from controlplane.embedded import door, envoy, postgres, valkey
from controlplane.embedded.program import Program, StartFailed, ended, spawn, tail, wait_ready
from controlplane.join import Guest
from controlplane.up import logs, ports, programs, record
from workers.gateway.bootstrap import write_bootstrap

STOP_ORDER = (
    ("beat", "web"),
    ("worker",),
    ("workloads",),
    ("gateway", "door", "passage"),
    ("valkey",),
    ("postgres",),
)
WORKLOAD_GRACE_SECONDS = 20.0
LONGEST_BACKOFF_SECONDS = 30.0
STABLE_SECONDS = 60.0
RENEW_SECONDS = 24 * 3600.0


class StopRequested(Exception):
    """A signal asked us to stop while something was being started."""


@dataclass
class Child:
    program: Program
    process: subprocess.Popen[bytes]
    started_at: float = field(default_factory=time.monotonic)
    failures: int = 0
    restart_at: float | None = None


class Supervisor:
    """`run()` returns the exit code of `make up`: 0 after a stop that was asked for, 1 when the start failed.

    With `demo`, the demonstration runs once all is up, and its failure makes the exit code 1. With `guest`, this is
    `make host`: the passage to the installation elsewhere, and a worker for this host alone.
    """

    def __init__(
        self, configuration: Configuration, *, demo: bool = False, guest: tuple[Guest, Program] | None = None
    ) -> None:
        self.configuration = configuration
        self.demo = demo
        self.guest = guest
        self.renew_at = 0.0
        self.children: dict[str, Child] = {}
        self.stops = 0
        self.phase = "starting"
        self.step = 0
        own = configuration.embedded_postgres + configuration.embedded_valkey + bool(configuration.hosts_port)
        self.steps = 3 if guest else 4 + own
        self.begun = time.monotonic()
        self.wake_reader, self.wake_writer = os.pipe()
        for end in (self.wake_reader, self.wake_writer):
            os.set_blocking(end, False)
        self.poll = select.poll()
        self.poll.register(self.wake_reader, select.POLLIN)

    # --- telling --------------------------------------------------------------------------------------------------

    def say(self, text: str, end: str = "\n") -> None:
        """To the terminal, if it is still there: after it was closed we still have all to stop."""
        with suppress(OSError, ValueError):
            sys.stdout.write(text + end)
            sys.stdout.flush()

    def doing(self, what: str, work: Callable[[], None], end: str = "") -> None:
        """One numbered line of progress around a piece of the start."""
        self.step += 1
        begun = time.monotonic()
        self.say(f"[{self.step}/{self.steps}] {what} ...", end=end)
        try:
            work()
        except BaseException:
            self.say("")
            raise
        mark = f"[{self.step}/{self.steps}] {what}: " if end else " "
        self.say(f"{mark}ready ({time.monotonic() - begun:.1f} s)")

    def log(self, name: str) -> Path:
        return programs.log_path(self.configuration, name)

    # --- signals and waiting --------------------------------------------------------------------------------------

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        self.stops += 1

    def on_hangup(self, *_: object) -> None:
        """A closed terminal is told in two ways, and is no hurry."""
        self.stops = max(self.stops, 1)

    def listen(self) -> None:
        signal.signal(signal.SIGINT, self.on_signal)
        signal.signal(signal.SIGTERM, self.on_signal)
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup means it
            signal.signal(signal.SIGHUP, self.on_hangup)
            if sys.stdout.isatty():
                # Where make leads the session of the terminal, it alone is told of its end, and waits for us.
                self.poll.register(sys.stdout.fileno(), 0)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)  # only to wake the waiting below
        signal.set_wakeup_fd(self.wake_writer, warn_on_full_buffer=False)

    def wait(self, seconds: float) -> None:
        """Sleep, but no longer than until the next signal, the end of a child, or that of the terminal."""
        for descriptor, _ in self.poll.poll(seconds * 1000):
            if descriptor == self.wake_reader:
                with suppress(BlockingIOError):
                    os.read(self.wake_reader, 4096)
            else:
                self.poll.unregister(descriptor)
                self.on_hangup()

    def pause(self, seconds: float) -> None:
        self.wait(seconds)
        if self.stops:
            raise StopRequested

    # --- starting -------------------------------------------------------------------------------------------------

    def launch(self, program: Program) -> Child:
        child = Child(program, spawn(program, self.log(program.name)))
        self.children[program.name] = child
        self.write_record()
        return child

    def launch_and_wait(self, *wanted: Program) -> None:
        for program in wanted:
            self.launch(program)
        for program in wanted:
            wait_ready(program, self.children[program.name].process, self.log(program.name), pause=self.pause)

    def write_record(self) -> None:
        record.write(self.configuration, {name: child.process.pid for name, child in self.children.items()}, self.phase)

    def start_postgres(self) -> None:
        data, sockets = self.configuration.var / "postgres", self.configuration.run_directory / "postgres"
        for folder in postgres.prepare(data, sockets):
            self.say(f"\n      other users may now pass (not list) {folder}, since PostgreSQL does not run as root", "")
        self.launch_and_wait(postgres.program(data, sockets))
        postgres.create_database(sockets)

    def start_valkey(self) -> None:
        self.launch_and_wait(valkey.program(self.configuration.run_directory / "valkey.sock"))

    def prepare(self) -> None:
        """Tables, and at the very first start the administrator, whose credentials are printed by the child."""
        self.run_to_end("prepare", programs.module("controlplane.up.prepare"), seconds=600)

    def run_to_end(self, name: str, argv: tuple[str, ...], seconds: float) -> None:
        """Run one of our short programs, its output shown. Raises StartFailed when it fails or takes too long."""
        program = Program(name, argv, lambda: False, environment=programs.COMMON, directory=PROJECT)
        child = Child(program, spawn(program, self.log(name), show_output=True))
        self.children[name] = child
        try:
            wait_ready(program, child.process, self.log(name), seconds=seconds, pause=self.pause)
        except StartFailed:
            if child.process.poll() != 0:
                raise
        finally:
            if child.process.poll() is None:
                self.end(child)
            del self.children[name]

    def start_gateway(self) -> None:
        settings = self.configuration
        directory = settings.var / "gateway"
        directory.mkdir(mode=0o700, exist_ok=True)
        admin_socket = settings.gateway_admin_socket
        bootstrap = write_bootstrap(directory, settings.bind, settings.gateway_port, admin_socket=admin_socket)
        reachable = settings.reachable_bind.strip("[]")
        self.launch_and_wait(envoy.program(bootstrap, reachable, settings.gateway_port))

    def start_work(self) -> None:
        host_id = installation.host_id(self.configuration)
        self.launch_and_wait(programs.worker(self.configuration, host_id), programs.beat(self.configuration))

    def start_guest(self, guest: Guest, passage: Program) -> None:
        """The passage first: programs that outlived a killed start may have something to bring through it."""
        settings = self.configuration
        if problem := ports.problem_with("127.0.0.1", settings.port, "the passage", "WINDLASS_PORT"):
            raise ports.PortTaken(problem)
        self.doing("Passage", lambda: self.launch_and_wait(passage))
        self.doing(f"Door at {guest.door}", lambda: self.enter(guest))
        self.doing("Worker", lambda: self.launch_and_wait(programs.worker(settings, guest.id)))

    def enter(self, guest: Guest) -> None:
        try:
            join.wait_to_enter(self.configuration.var, guest, self.pause, lambda words: self.say(words, ""))
        except join.JoinFailed as error:
            raise StartFailed(str(error)) from None

    def renew(self) -> None:
        """The certificate, once a day if it is due; it is asked for long before the present one ends."""
        if self.guest and time.monotonic() > self.renew_at:
            self.renew_at = time.monotonic() + RENEW_SECONDS
            try:
                join.renew_if_due(self.configuration.var, self.guest[0])
            except join.JoinFailed as error:
                self.say(f"{error} It is tried again.")

    def start(self) -> None:
        """Everything in order. Raises StartFailed or StopRequested; what was started is in `children` then."""
        settings = self.configuration
        (settings.var / "log").mkdir(mode=0o700, exist_ok=True)
        if settings.run_directory != settings.var / "run":
            installation.private_directory(settings.run_directory, 0o711 if os.geteuid() == 0 else 0o700)
        else:
            settings.run_directory.mkdir(mode=0o711, exist_ok=True)
        installation.keys(settings)
        if left := record.leftovers(settings.var):
            names = ", ".join(process.name for process in left)
            self.say(f"An earlier start was killed and left something running; stopping it first: {names}")
            record.stop_leftovers(left)
        if self.guest:
            return self.start_guest(*self.guest)
        ports.check(settings)
        # First of all: it needs nothing but its files, and replicas that outlived a killed start answer through it.
        self.doing("Gateway", self.start_gateway)
        if settings.embedded_postgres:
            self.doing("PostgreSQL", self.start_postgres)
        if settings.embedded_valkey:
            self.doing("Valkey", self.start_valkey)
        self.doing("Tables and administrator", self.prepare, end="\n")
        self.doing("Web server", lambda: self.launch_and_wait(programs.web(settings)))
        if settings.hosts_port:
            self.doing("Door for other hosts", lambda: self.launch_and_wait(door.door(settings)))
        self.doing("Worker and schedule", self.start_work)

    # --- running --------------------------------------------------------------------------------------------------

    def run(self) -> int:
        self.listen()
        failed = False
        try:
            self.start()
            self.phase = "running"
            self.write_record()
            self.welcome()
            if self.demo:
                failed = not self.demonstrate()
            self.watch()
        except StopRequested:
            pass
        except (StartFailed, ports.PortTaken) as error:
            failed = not self.stops
            if failed:
                self.say(f"\nWindlass could not start. {error}")
        finally:
            self.stop()
        return 1 if failed else 0

    def welcome(self) -> None:
        settings = self.configuration
        if self.guest:
            took, guest = time.monotonic() - self.begun, self.guest[0]
            self.say(
                f"\nThis host, “{guest.name}”, takes work from {guest.door} after {took:.1f} s.\n"
                f"  logs          {settings.var / 'log'}\n"
                "Ctrl-C stops it and what runs here; jobs go on from their checkpoint."
            )
            return
        self.say(
            f"\nWindlass is ready after {time.monotonic() - self.begun:.1f} s: {settings.web_url}\n"
            f"  predictions   {settings.predictions_url}\n"
            f"  credentials   {settings.var / 'credentials.json'}\n"
            f"  logs          {settings.var / 'log'}\n"
            "Ctrl-C stops all of it; your data is kept."
        )

    def demonstrate(self) -> bool:
        """Run the demonstration while everything is looked after. Returns whether it succeeded."""
        program = Program("demo", programs.DEMO, lambda: False, environment=programs.COMMON, directory=PROJECT)
        child = Child(program, spawn(program, self.log("demo"), show_output=True))
        while child.process.poll() is None and not self.stops:
            self.wait(1.0)
            self.look_after_all()
        if self.stops:
            self.end(child)
            return True
        if child.process.returncode != 0:
            self.say(f"\nThe demonstration failed. {tail(self.log('demo'))}")
        self.say("\nWindlass keeps running; Ctrl-C stops it.")
        return child.process.returncode == 0

    def watch(self) -> None:
        """Until a signal: restart what ends, and keep logs at their size."""
        while not self.stops:
            self.wait(5.0 if all(child.restart_at is None for child in self.children.values()) else 0.2)
            self.look_after_all()

    def look_after_all(self) -> None:
        for child in list(self.children.values()):
            self.look_after(child)
        logs.rotate(self.configuration.var / "log", self.configuration.log_bytes)
        self.renew()

    def look_after(self, child: Child) -> None:
        now = time.monotonic()
        if child.restart_at is None:
            code = child.process.poll()
            if code is None or self.stops:
                return
            child.failures = 1 if now - child.started_at > STABLE_SECONDS else child.failures + 1
            delay = min(LONGEST_BACKOFF_SECONDS, 0.5 * 2 ** (child.failures - 1))
            child.restart_at = now + delay
            name = child.program.name
            self.say(f"{name} {ended(code)}; it is started again in {delay:.1f} s. Its log: {self.log(name)}")
        elif now >= child.restart_at:
            fresh = self.launch(child.program)
            fresh.failures = child.failures

    # --- stopping -------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """All that we started, in order; a second signal hurries."""
        started = bool(self.children)
        self.phase = "stopping"
        if started:
            self.say("\nStopping (press Ctrl-C again to hurry) ...")
            self.write_record()
        for names in STOP_ORDER:
            if names == ("workloads",):
                if started:
                    self.stop_workloads()
                continue
            group = [self.children[name] for name in names if name in self.children]
            for child in group:
                if child.process.poll() is None:
                    child.process.send_signal(child.program.stop[0][0])
            for child in group:
                self.end(child)
        (self.configuration.var / "run.json").unlink(missing_ok=True)
        if self.configuration.run is None:
            shutil.rmtree(self.configuration.run_directory, ignore_errors=True)  # sockets; made again at each start
        if started:
            self.say("Stopped.")

    def hurried(self) -> bool:
        return self.stops > 1

    def end(self, child: Child) -> None:
        for number, seconds in (*child.program.stop, (signal.SIGKILL, 10.0)):
            if child.process.poll() is not None:
                return
            hurry = self.hurried() and number != signal.SIGKILL
            child.process.send_signal(child.program.hurried if hurry else number)
            self.gone_within(child, 3.0 if hurry else seconds)

    def gone_within(self, child: Child, seconds: float) -> None:
        """Wait for its end, but not longer than `seconds` or until a further signal."""
        stops, deadline = self.stops, time.monotonic() + seconds
        while child.process.poll() is None and time.monotonic() < deadline and self.stops == stops:
            self.wait(0.1)

    def stop_workloads(self) -> None:
        directory = self.configuration.workloads_directory
        if not directory.is_dir() or not any(directory.iterdir()):
            return
        for grace_seconds in (WORKLOAD_GRACE_SECONDS, 0.0):
            grace = 0.0 if self.hurried() else grace_seconds
            argv = programs.module("controlplane.up.workloads", str(directory), str(grace))
            program = Program("workloads", argv, lambda: False, environment=programs.COMMON, directory=PROJECT)
            child = Child(program, spawn(program, self.log("workloads")))
            self.gone_within(child, grace + 15.0)
            if child.process.poll() == 0:
                return
            self.end(child)
        self.say(f"Not all workloads could be stopped: {self.log('workloads')} says why. The next start adopts them.")
