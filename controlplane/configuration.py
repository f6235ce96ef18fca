"""Every setting of Windlass, read from the environment, checked at once, with a default for each.

Nothing here starts anything or imports Django, so that the supervisor, Django and the tests can all read the same
settings. The names of the variables are `WINDLASS_<FIELD>`, and the plain ones that other software has made usual:
`DATABASE_URL`, `REDIS_URL`, `ENVOY_BIN`.
"""

import difflib
import hashlib
import importlib.util
import ipaddress
import os
import re
import socket
import sys
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote, urlsplit

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

PROJECT = Path(__file__).resolve().parent.parent

# sockaddr_un holds 107 bytes of path; the longest name below the run directory is `/postgres/.s.PGSQL.5432.lock`
LONGEST_RUN_DIRECTORY = 75

# What WINDLASS_STORAGE is on a host that joined: its workloads' parts pass through the main machine's web server.
ELSEWHERE = "elsewhere"
STORAGE_PACKAGES = {
    "s3": ("boto3", "s3"),
    "gs": ("google.cloud.storage", "google"),
    "azure": ("azure.storage.blob", "azure"),
}


def own_memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


class Configuration(BaseSettings):
    """The settings of this installation.

    Each field's description is what `make up CHECK=1` shows, each example is a value that works.
    """

    model_config = SettingsConfigDict(
        env_prefix="WINDLASS_", env_ignore_empty=True, extra="ignore", frozen=True, populate_by_name=True
    )

    var: Path = Field(
        PROJECT / "var", description="where all data of this installation is kept", examples=["/srv/windlass"]
    )
    run: Path | None = Field(
        None, description="where sockets are kept (a short path)", examples=["/run/windlass"], validate_default=False
    )
    bind: str = Field(
        "127.0.0.1", description="address that the web server and gateway listen on", examples=["0.0.0.0"]
    )
    port: int = Field(8000, ge=1, le=65535, description="port of the web server", examples=["8001"])
    gateway_port: int = Field(
        8080, ge=1, le=65535, description="port of the gateway for predictions", examples=["8081"]
    )
    public_url: str = Field(
        "", description="how browsers reach the web server", examples=["https://windlass.example.org"]
    )
    gateway_url: str = Field("", description="how callers reach the gateway", examples=["https://models.example.org"])
    parts_url: str = Field(
        "",
        description="how workloads reach the web server for blobs, where WINDLASS_STORAGE is an object store",
        examples=["http://web:8000"],
    )
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="further host names that the web server answers to", examples=["windlass.lan,10.0.0.5"]
    )
    database_url: str = Field(
        "",
        validation_alias="DATABASE_URL",
        description="PostgreSQL 14 or newer; empty: the embedded one",
        examples=["postgresql://windlass:secret@db.example.org:5432/windlass"],
    )
    redis_url: str = Field(
        "",
        validation_alias="REDIS_URL",
        description="Valkey or Redis; empty: the embedded one",
        examples=["redis://:secret@valkey.example.org:6379/0"],
    )
    envoy_bin: Path | None = Field(
        None, validation_alias="ENVOY_BIN", description="Envoy; empty: the embedded one", examples=["/usr/bin/envoy"]
    )
    storage: str = Field(
        "",
        description="where blobs are kept; empty: files below the data directory; elsewhere: with the main machine",
        examples=["s3://bucket/prefix", "gs://bucket", "azure://container"],
    )
    keys: str = Field(
        "",
        repr=False,
        description="the keys of this installation, the first one encrypts; empty: keys.json in the data directory",
        examples=['[{"id": "2026a", "key": "<base64 of 32 random bytes>"}]'],
    )
    keys_file: Path | None = Field(
        None, description="a file with the same content as WINDLASS_KEYS", examples=["/run/secrets/windlass_keys"]
    )
    debug: bool = Field(False, description="show tracebacks in the browser; never in production", examples=["false"])
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="how much is logged", examples=["WARNING"]
    )
    hints: bool = Field(
        True, description="tell workers at once; false: they find due rows by sweeping", examples=["true"]
    )
    time_scale: float = Field(
        1.0, gt=0, le=10, description="scales lease and grace times (for fault tests)", examples=["1.0"]
    )
    host_id: str = Field("", description="this host's id; empty: kept in host.json", examples=["build-machine-1"])
    host_name: str = Field(
        default_factory=socket.gethostname, description="this host's name on pages", examples=["build-machine-1"]
    )
    host_address: str = Field(
        "127.0.0.1", description="IPv4 address where the gateway reaches replicas on this host", examples=["10.0.0.5"]
    )
    host_cpus: float = Field(
        default_factory=lambda: float(os.cpu_count() or 1), gt=0, description="CPUs for workloads", examples=["4"]
    )
    host_memory_bytes: int = Field(
        default_factory=own_memory_bytes, gt=0, description="memory for workloads", examples=["8589934592"]
    )
    workloads: Path | None = Field(
        None,
        description="where this host keeps its workloads; empty: below the data directory",
        examples=["/srv/windlass-workloads"],
        validate_default=False,
    )
    gateway: str = Field(
        "",
        pattern=r"^[a-z0-9-]{0,60}$",
        description="the gateway that this host's worker configures; empty: one of its own; none: none; "
        "a name: one that all workers with this name and data directory look after together",
        examples=["none"],
    )
    hosts_port: int = Field(
        0, ge=0, le=65535, description="TLS port where other machines join as hosts; 0: closed", examples=["8443"]
    )
    hosts_bind: str = Field("0.0.0.0", description="IPv4 address that this port listens on", examples=["10.0.0.5"])
    hosts_address: str = Field(
        "",
        description="IPv4 address where other machines reach this port; empty: WINDLASS_HOST_ADDRESS",
        examples=["10.0.0.5"],
    )
    worker_concurrency: int = Field(
        4, ge=1, le=64, description="reconciling processes of the worker on this host", examples=["4"]
    )
    allow_uncaged_scripts: bool = Field(
        False, description="run uploaded scripts although this host cannot isolate them", examples=["false"]
    )
    allowed_private_cidrs: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="networks that are not the internet, where a Kubernetes that somebody brings may nevertheless be",
        examples=["10.20.0.0/16,192.168.7.4/32"],
    )
    image: str = Field(
        "windlass:0.1.0", description="the image that pods are made of", examples=["registry.example.org/windlass:1"]
    )
    python: Path = Field(
        Path(sys.executable), description="the Python that runs workloads", examples=["/usr/bin/python3.11"]
    )
    log_bytes: int = Field(
        10_000_000, ge=100_000, description="size at which a log of `make up` is rotated", examples=["10000000"]
    )

    @field_validator("host_address", "hosts_bind", "hosts_address", mode="after")
    @classmethod
    def is_ipv4(cls, value: str) -> str:
        try:
            return value and str(ipaddress.IPv4Address(value))
        except ValueError:
            raise ValueError("not an IPv4 address; Envoy takes no names") from None

    @field_validator("var", "run", "workloads", mode="after")
    @classmethod
    def absolute(cls, value: Path | None) -> Path | None:
        return value and Path(os.path.abspath(value.expanduser()))

    @field_validator("allowed_hosts", mode="before")
    @classmethod
    def split_commas(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("allowed_private_cidrs", mode="before")
    @classmethod
    def networks(cls, value: Any) -> Any:
        ranges = [part.strip() for part in value.split(",")] if isinstance(value, str) else value
        try:
            return tuple(str(ipaddress.ip_network(part)) for part in ranges if part)
        except ValueError as error:
            raise ValueError(f"not a list of networks with commas between them: {error}") from None

    @field_validator("image", mode="after")
    @classmethod
    def image_reference(cls, value: str) -> str:
        if not re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9._:/@-]*", value):
            raise ValueError("not the name of an image")
        return value

    @field_validator("run", mode="after")
    @classmethod
    def run_is_short(cls, value: Path | None) -> Path | None:
        if value and len(os.fsencode(value)) > LONGEST_RUN_DIRECTORY:
            raise ValueError(f"longer than {LONGEST_RUN_DIRECTORY} bytes, which is too long for a socket's path")
        return value

    @field_validator("database_url", mode="after")
    @classmethod
    def database_is_postgres(cls, value: str) -> str:
        if value and urlsplit(value).scheme not in ("postgres", "postgresql"):
            raise ValueError("not the URL of a PostgreSQL database")
        return value

    @field_validator("redis_url", mode="after")
    @classmethod
    def broker_is_redis(cls, value: str) -> str:
        if value and urlsplit(value).scheme not in ("redis", "rediss", "redis+socket", "unix"):
            raise ValueError("not the URL of a Valkey or Redis server")
        return re.sub("^unix://", "redis+socket://", value)

    @field_validator("public_url", "gateway_url", mode="after")
    @classmethod
    def web_address(cls, value: str) -> str:
        if value and (urlsplit(value).scheme not in ("http", "https") or not urlsplit(value).hostname):
            raise ValueError("not an http:// or https:// URL")
        return value.rstrip("/")

    @field_validator("envoy_bin", "python", mode="after")
    @classmethod
    def program(cls, value: Path | None) -> Path | None:
        if value and not os.access(value, os.X_OK):
            raise ValueError("no such program, or it may not be run by this user")
        return value

    @field_validator("storage", mode="after")
    @classmethod
    def storage_is_known(cls, value: str) -> str:
        if value in ("", ELSEWHERE):
            return value
        parts = urlsplit(value)
        if parts.scheme not in STORAGE_PACKAGES or not parts.netloc:
            raise ValueError("neither s3://bucket, gs://bucket nor azure://container")
        package, extra = STORAGE_PACKAGES[parts.scheme]
        try:
            found = importlib.util.find_spec(package)
        except ModuleNotFoundError:
            found = None
        if found is None:
            raise ValueError(f"needs a package that is not installed: pip install 'django-storages[{extra}]'")
        return value

    @model_validator(mode="after")
    def ports_differ(self) -> "Configuration":
        if self.port == self.gateway_port:
            raise ValueError(f"the web server and the gateway cannot share port {self.port}")
        if self.hosts_port in (self.port, self.gateway_port):
            raise ValueError(f"the port for hosts, {self.hosts_port}, is that of the web server or the gateway")
        return self

    @property
    def run_directory(self) -> Path:
        """A private directory whose path is short enough for sockets, and plain enough for a URL."""
        if self.run:
            return self.run
        inside = self.var / "run"
        if len(os.fsencode(inside)) <= LONGEST_RUN_DIRECTORY and re.fullmatch(r"[A-Za-z0-9._/-]+", str(inside)):
            return inside
        digest = hashlib.sha256(os.fsencode(self.var)).hexdigest()[:12]
        return Path(f"/tmp/windlass-{os.getuid()}-{digest}")  # noqa: S108 - owner and mode are checked where it is made

    @property
    def workloads_directory(self) -> Path:
        return self.workloads or self.var / "workloads"

    @property
    def shared_gateway_queue(self) -> str:
        """The queue of a gateway that several workers look after; empty where a host has one of its own, or none."""
        return f"gateway:{self.gateway}" if self.gateway not in ("", "none") else ""

    @property
    def gateway_admin_socket(self) -> Path:
        """A shared gateway's is beside its files, since that directory is all that its workers share with it."""
        if self.shared_gateway_queue:
            return self.var / "gateway/admin.sock"
        return self.run_directory / "gateway-admin.sock"

    def queues(self, host_id: str) -> list[str]:
        """What this host's worker consumes. A guest takes its own work only: it reaches no blob and no cloud."""
        common = [] if self.storage == ELSEWHERE else ["reconcile"]
        return [*common, f"host:{host_id}", *filter(None, [self.shared_gateway_queue])]

    @property
    def embedded_postgres(self) -> bool:
        return not self.database_url

    @property
    def embedded_valkey(self) -> bool:
        return not self.redis_url

    @property
    def database(self) -> str:
        """The URL of the database, embedded or not."""
        socket_directory = quote(str(self.run_directory / "postgres"), safe="")
        return self.database_url or f"postgresql://postgres@/windlass?host={socket_directory}"

    @property
    def broker(self) -> str:
        """The broker's URL as kombu spells it."""
        return self.redis_url or f"redis+socket://{self.run_directory / 'valkey.sock'}"

    @property
    def door_address(self) -> str:
        """Where other machines reach the door, "address:port"."""
        return f"{self.hosts_address or self.host_address}:{self.hosts_port}"

    @property
    def web_url(self) -> str:
        return self.public_url or f"http://{self.reachable_bind}:{self.port}"

    @property
    def parts_address(self) -> str:
        """Where programs beside workloads reach the web server."""
        return self.parts_url or f"http://{self.reachable_bind}:{self.port}"

    @property
    def predictions_url(self) -> str:
        return self.gateway_url or f"http://{self.reachable_bind}:{self.gateway_port}"

    @property
    def reachable_bind(self) -> str:
        bind = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.bind, self.bind)
        return f"[{bind}]" if ":" in bind else bind


def variable_of(field: str) -> str:
    alias = Configuration.model_fields[field].validation_alias
    return alias if isinstance(alias, str) else f"WINDLASS_{field.upper()}"


def problems_of(error: ValidationError) -> list[str]:
    """One line for each bad setting: its name, what is wrong with it, and a value that works."""
    lines = []
    by_variable = {variable_of(name).lower(): name for name in Configuration.model_fields}
    for problem in error.errors(include_url=False):
        location = str(problem["loc"][0]) if problem["loc"] else "gateway_port"
        name = by_variable.get(location.lower(), location)
        what = problem["msg"].removeprefix("Value error, ")
        secret = name in ("keys", "database_url", "redis_url") or not problem["loc"]
        shown = "" if secret else f" is {str(problem['input'])!r}"
        example = (Configuration.model_fields[name].examples or [""])[0]
        lines.append(f"{variable_of(name)}{shown}: {what}. A value that works: {example}")
    return lines


def unknown_variables(environment: dict[str, str]) -> list[str]:
    """Variables that look like settings of Windlass and are none, with what was likely meant."""
    known = [variable_of(name) for name in Configuration.model_fields]
    lines = []
    for name in sorted(environment):
        if name.startswith("WINDLASS_") and name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            lines.append(f"{name} is no setting" + (f"; did you mean {near[0]}?" if near else ""))
    return lines


@lru_cache(maxsize=1)
def load() -> Configuration:
    """Read the settings, or end the program with one list of everything that is wrong with them."""
    try:
        return Configuration()
    except ValidationError as error:
        complaints = "\n".join(f"  - {line}" for line in problems_of(error))
        raise SystemExit(f"Windlass cannot start; these settings are missing or bad:\n{complaints}") from None
