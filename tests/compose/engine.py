"""A Docker engine of the tests' own: on a private socket, with no bridge and no firewall rules, gone when they end.

No image is pulled. The base is made by mmdebstrap from Debian's archive; our image is built on it by the Dockerfile.
"""

from __future__ import annotations

import ast
import functools
import http.server
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
DOCKER = "/usr/bin/docker"
PACKAGES = {DOCKER: "docker.io", "/usr/sbin/dockerd": "docker.io", "/usr/bin/mmdebstrap": "mmdebstrap"}
PACKAGES |= {"/usr/sbin/iptables": "iptables"}
BASE, IMAGE = "windlass-test-base", "windlass-test"
IN_BASE = "python3,python3-venv,ca-certificates,bubblewrap"
MEMORY_FOR_DISK_BYTES = 12 * 1024**3


class Engine:
    """`root`: all that the engine writes; kept between runs where COMPOSE_TEST_ENGINE names a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(root),
            "DOCKER_HOST": f"unix://{root}/s",
            "DOCKER_CONFIG": str(root / "config"),
            "DOCKER_BUILDKIT": "1",
        }

    def docker(self, *arguments: str, timeout_seconds: float = 120) -> str:
        return said([DOCKER, *arguments], self.environment, timeout_seconds)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Raises AssertionError if anything of it is left at the end."""
        words = ["dockerd", "--data-root", f"{self.root}/data", "--exec-root", f"{self.root}/exec"]
        words += ["--pidfile", f"{self.root}/pid", "-H", self.environment["DOCKER_HOST"]]
        words += ["--bridge", "none", "--iptables=false", "--ip6tables=false"]
        with (self.root / "dockerd.log").open("wb") as log:
            daemon = subprocess.Popen(words, stdout=log, stderr=log, start_new_session=True)
        try:
            self._wait_until_it_answers(daemon)
            yield
        finally:
            daemon.send_signal(signal.SIGTERM)
            try:
                daemon.wait(60)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
            left = self.processes()
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            assert not left, f"The engine left processes behind: {left}"

    def _wait_until_it_answers(self, daemon: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + 60
        while subprocess.run([DOCKER, "version"], env=self.environment, capture_output=True).returncode != 0:
            log = (self.root / "dockerd.log").read_text()[-2000:]
            assert daemon.poll() is None and time.monotonic() < deadline, f"dockerd does not start:\n{log}"
            time.sleep(0.2)

    def processes(self) -> list[int]:
        """Living processes that name our folder: the engine, containerd, and what watches over containers."""
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdecimal() or int(entry.name) == os.getpid():
                continue
            try:
                words = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            program = words.split(b"\0")[0].rpartition(b"/")[2]
            if program.startswith((b"dockerd", b"containerd")) and f"{self.root}/".encode() in words:
                found.append(int(entry.name))
        return found

    def build(self) -> None:
        """The base unless it is there, and the image. What the build needs of this machine goes in as secrets."""
        if not self.docker("images", "-q", BASE).strip():
            tar = self.root / "base.tar"
            words = ["mmdebstrap", "--variant=minbase", "--dpkgopt=force-unsafe-io", f"--include={IN_BASE}"]
            said([*words, "bookworm", str(tar)], {**os.environ, "TMPDIR": str(self.root)}, 600)
            self.docker("import", str(tar), BASE)
            tar.unlink()
        with pip_settings(self.root / "pip.conf") as secrets:
            words = ["build", "--network", "host", "--build-arg", f"BASE={BASE}", "--progress", "plain", "-t", IMAGE]
            words += [word for name, path in secrets.items() for word in ("--secret", f"id={name},src={path}")]
            self.docker(*words, str(PROJECT), timeout_seconds=1500)


def said(words: list[str], environment: dict[str, str], timeout_seconds: float) -> str:
    """Standard output; a failure fails the test with what the program said last."""
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=timeout_seconds, cwd=PROJECT)
    assert done.returncode == 0, (
        f"{' '.join(words)}\nended with {done.returncode}:\n{(done.stdout + done.stderr)[-4000:]}"
    )
    return done.stdout


def install() -> None:
    """The engine and what makes the base, from Debian's archive, if they are missing."""
    missing = sorted({package for path, package in PACKAGES.items() if not os.access(path, os.X_OK)})
    if not missing:
        return
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    said(["apt-get", "update", "-q"], environment, 300)
    said(["apt-get", "install", "-y", "-q", "--no-install-recommends", *missing], environment, 600)


def new_root() -> Path:
    """In memory where there is plenty of it, else on the disk."""
    free = shutil.disk_usage("/dev/shm").free if os.path.isdir("/dev/shm") else 0
    available = next(
        int(line.split()[1]) * 1024
        for line in Path("/proc/meminfo").read_text().splitlines()
        if line.startswith("MemAvailable:")
    )
    roomy = min(free, available) > MEMORY_FOR_DISK_BYTES
    return Path(tempfile.mkdtemp(prefix="windlass-engine-", dir="/dev/shm" if roomy else "/var/tmp"))


def remove(root: Path) -> None:
    for line in reversed(Path("/proc/mounts").read_text().splitlines()):
        if (place := line.split()[1]).startswith(f"{root}/"):
            subprocess.run(["umount", "-l", place], check=False)
    shutil.rmtree(root)


@contextmanager
def pip_settings(path: Path) -> Iterator[dict[str, Path]]:
    """This machine's settings of pip as secrets of a build: folders of wheels are served to it while it runs."""
    listed = said([sys.executable, "-m", "pip", "config", "list"], dict(os.environ), 60)
    settings: dict[str, str] = {}
    for line in listed.splitlines():
        name, _, value = line.partition("=")
        settings.setdefault(name.rpartition(".")[2], ast.literal_eval(value))  # the environment's come first
    kept = {name: settings[name] for name in ("index-url", "trusted-host") if name in settings}
    links = [word for word in settings.get("find-links", "").split() if not word.startswith("http")]
    servers = [serve(Path(word.removeprefix("file://"))) for word in links]
    if servers:
        kept["find-links"] = " ".join(f"http://127.0.0.1:{server.server_address[1]}/" for server in servers)
    secrets = {"pip.conf": path}
    certificates = settings.get("cert") or os.environ.get("SSL_CERT_FILE")
    if certificates:
        secrets["ca-certificates.crt"] = Path(certificates)
        kept["cert"] = "/run/secrets/ca-certificates.crt"
    path.write_text("[global]\n" + "".join(f"{name} = {value}\n" for name, value in kept.items()))
    try:
        yield secrets
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()
        path.unlink()


def serve(directory: Path) -> http.server.ThreadingHTTPServer:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            return None

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(directory)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server
