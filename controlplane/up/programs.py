"""Our own processes: the web server, the worker of this host, and the clock of the scheduled jobs."""

import http.client
import signal
import sys
from pathlib import Path

from controlplane.configuration import PROJECT, Configuration
from controlplane.embedded.program import Program

COMMON = {"DJANGO_SETTINGS_MODULE": "controlplane.settings", "PYTHONUNBUFFERED": "1"}
DEMO = (sys.executable, "-m", "controlplane.demo")


def web(configuration: Configuration) -> Program:
    """Uvicorn. Open streams are cut after 3 s of a stop: browsers reconnect by themselves."""
    argv = [sys.executable, "-m", "uvicorn", "controlplane.asgi:application"]
    argv += ["--host", configuration.bind, "--port", str(configuration.port), "--loop", "uvloop", "--http", "httptools"]
    argv += ["--lifespan", "off", "--no-access-log", "--no-server-header", "--log-level", "warning"]
    argv += ["--timeout-graceful-shutdown", "3", "--timeout-keep-alive", "75"]
    # Only an installation that says how it is reached has a proxy in front whose headers can be believed.
    argv += ["--proxy-headers"] if configuration.public_url else ["--no-proxy-headers"]
    return Program(
        name="web",
        argv=tuple(argv),
        ready=lambda: answers(configuration),
        stop=((signal.SIGTERM, 6.0),),
        environment=COMMON,
        directory=PROJECT,
    )


def answers(configuration: Configuration) -> bool:
    """Does the web server say that it can work?"""
    connection = http.client.HTTPConnection(configuration.reachable_bind.strip("[]"), configuration.port, timeout=5)
    try:
        connection.request("GET", "/readyz", headers={"Host": "localhost"})
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def worker(configuration: Configuration, host_id: str) -> Program:
    """Celery, on the common queue and this host's own. SIGTERM lets running steps end, SIGQUIT does not.

    When we are killed it is killed too: a step may end anywhere, and Celery's own way out waits for the broker.
    """
    ready = configuration.run_directory / "worker.ready"
    ready.unlink(missing_ok=True)
    argv = [sys.executable, "-m", "celery", "-A", "controlplane.celery", "worker"]
    argv += ["-Q", ",".join(configuration.queues(host_id)), "-n", f"windlass@{host_id}"]
    argv += ["-l", configuration.log_level, "--without-gossip", "--without-mingle"]
    return Program(
        name="worker",
        argv=tuple(argv),
        ready=ready.exists,
        stop=((signal.SIGTERM, 8.0), (signal.SIGQUIT, 4.0)),
        death_signal=signal.SIGKILL,
        environment={**COMMON, "WINDLASS_READY_FILE": str(ready)},
        directory=PROJECT,
    )


def beat(configuration: Configuration) -> Program:
    """Celery beat: exactly one an installation; its schedule is in the database."""
    argv = [sys.executable, "-m", "celery", "-A", "controlplane.celery", "beat", "-l", configuration.log_level]
    argv += ["--pidfile", ""]
    return Program(
        name="beat",
        argv=tuple(argv),
        ready=lambda: True,
        stop=((signal.SIGTERM, 3.0),),
        environment=COMMON,
        directory=PROJECT,
    )


def module(name: str, *arguments: str) -> tuple[str, ...]:
    """The command line that runs one of our modules."""
    return (sys.executable, "-m", name, *arguments)


def log_path(configuration: Configuration, name: str) -> Path:
    return configuration.var / "log" / f"{name}.log"
