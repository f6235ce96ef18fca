"""How this machine joins an installation elsewhere, and keeps its right to: what is said to the door, and what is kept.

    var/host.json             which host this is, of which installation (see Guest)
    var/keys.json             the installation's keys, which its secrets and blobs are sealed with
    var/passage/host.pem      this host's certificate and its key, which never left this machine
    var/passage/identity.json the same as Envoy reads it

Standard library only, but for the certificate request: nothing here needs Django.
"""

import base64
import hashlib
import http.client
import json
import os
import socket
import ssl
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from apps.core.version import source_digest
from workers.door.door import JOIN, name_at_door
from workers.door.passage import secret
from workers.gateway.files import replace_file

TIMEOUT_SECONDS = 8.0
CLOCK_SECONDS = 300.0
RENEW = timedelta(days=30)
ANSWER_BYTES = 1024 * 1024
REQUESTED_NAME = "windlass host"  # of a request; what the certificate says is not for this machine to choose
ADMISSION_SECONDS = 20.0
INVITE = "On the main machine: make invite-host NAME=second"


class JoinFailed(Exception):
    """This machine can't join, or not go on; the message says why and what to do. `passing`: it may pass by itself."""

    def __init__(self, message: str, *, passing: bool = False) -> None:
        super().__init__(message)
        self.passing = passing


@dataclass(frozen=True)
class Token:
    """`door`: "address:port". `authority_sha256`: of the certificate that the door's own is signed with."""

    door: str
    authority_sha256: str
    secret: str

    @classmethod
    def read(cls, text: str) -> "Token":
        try:
            padded = text.strip() + "=" * (-len(text.strip()) % 4)
            content = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
            token = cls(str(content["a"]), str(content["c"]), str(content["s"]))
            place(token.door)
        except (ValueError, KeyError, TypeError):
            raise JoinFailed(
                f"JOIN is no invitation, or only a part of one: copy all of what make invite-host printed. {INVITE}"
            ) from None
        return token


@dataclass(frozen=True)
class Guest:
    """This machine as a host of an installation elsewhere. `address`: where others reach it; `database_url` and
    `redis_url`: "" for what is behind the door; `authority`: PEM."""

    id: str
    name: str
    door: str
    authority: str
    address: str
    database_url: str
    redis_url: str

    @classmethod
    def of(cls, var: Path) -> "Guest | None":
        """The one that this data directory belongs to, if it has joined."""
        try:
            content = json.loads((var / "host.json").read_bytes())
            return cls(**content) if "door" in content else None
        except (OSError, ValueError, TypeError):
            return None

    def save(self, var: Path) -> None:
        replace_file(var / "host.json", json.dumps(asdict(self), indent=2).encode() + b"\n")


def place(door: str) -> tuple[str, int]:
    """Raises ValueError."""
    address, _, port = door.rpartition(":")
    return address, int(port)


# --- asking the door ------------------------------------------------------------------------------------------------


def ask(
    door: str, name: str, context: ssl.SSLContext, method: str, path: str, body: Any = None
) -> tuple[int, Any, str]:
    """(status, answer, this machine's own address on the way there). Raises OSError, HTTPException, ValueError."""
    plain = socket.create_connection(place(door), timeout=TIMEOUT_SECONDS)
    with closing(plain):
        own = str(plain.getsockname()[0])
        with closing(context.wrap_socket(plain, server_hostname=name)) as secured:
            connection = http.client.HTTPConnection(name)
            connection.sock = secured
            sent = None if body is None else json.dumps(body).encode()
            connection.request(method, path, sent, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            content = answer.read(ANSWER_BYTES)
    kind = answer.headers.get_content_type()
    return answer.status, json.loads(content) if kind == "application/json" else {}, own


def greet(door: str, authority: str | None, authority_sha256: str = "") -> tuple[str, str]:
    """(the installation's authority, this machine's address), once it is sure that we talk to the right one.

    Without `authority`, the one that answers is checked against `authority_sha256`: nothing was told to it before.
    Raises JoinFailed.
    """
    context = ssl.create_default_context(cadata=authority) if authority else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if not authority:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # the checksum below is what counts
    try:
        status, told, own = ask(door, JOIN, context, "GET", "/hosts/authority")
        found, version, now = str(told["authority"]), str(told["version"]), float(told["time"])
        digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(found)).hexdigest()
    except ssl.SSLCertVerificationError as error:
        raise JoinFailed(_unverified(door, error)) from None
    except (OSError, http.client.HTTPException) as error:
        raise JoinFailed(_no_answer(door, error), passing=True) from None
    except (ValueError, KeyError, TypeError):
        raise JoinFailed(_no_answer(door, f"it answered {status}"), passing=True) from None
    if digest != (authority_sha256 or hashlib.sha256(ssl.PEM_cert_to_DER_cert(authority or "")).hexdigest()):
        raise JoinFailed(
            f"What answers at {door} is not the installation that made this invitation: its certificate authority is "
            f"another one. It was told nothing. Check the address, and make another invitation. {INVITE}"
        )
    if abs(late := now - time.time()) > CLOCK_SECONDS:
        how = f"{abs(late) / 60:.0f} minutes {'behind' if late > 0 else 'ahead of'} that of {door}"
        raise JoinFailed(f"This machine's clock is {how}. Set both by a time server (NTP), then try again.")
    if version != source_digest():
        raise JoinFailed(
            f"This checkout is another version of Windlass ({source_digest()[:12]}) than what runs at {door} "
            f"({version[:12]}). Bring both to the same commit (git pull; make up there, make host here)."
        )
    return found, own


def _no_answer(door: str, why: object) -> str:
    port = place(door)[1]
    return (
        f"The door at {door} does not answer ({why}). Is Windlass running there with WINDLASS_HOSTS_PORT={port}, and "
        f"does its firewall let port {port} through?"
    )


def _unverified(door: str, error: ssl.SSLCertVerificationError) -> str:
    if error.verify_code in (9, 10):  # not yet valid, expired
        now = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
        return (
            f"The certificate of the door at {door} is not valid at this machine's time, {now}. Is this clock right? "
            "Set both machines by a time server (NTP), then try again."
        )
    return (
        f"What answers at {door} is not the installation that this host joined ({error.verify_message}). If it was "
        f"made anew, join it again. {INVITE}"
    )


# --- joining --------------------------------------------------------------------------------------------------------


def join(var: Path, token: Token, address: str, cpus: float, memory_bytes: int) -> Guest:
    """Use the invitation, and keep what was answered. `address`: "" for the one that reaches the door.

    Raises JoinFailed; then nothing has changed here.
    """
    from apps.core.certificates import new_request

    before = Guest.of(var)
    authority, own = greet(token.door, None, token.authority_sha256)
    key, request = new_request(REQUESTED_NAME)
    content = {
        "secret": token.secret,
        "request": request,
        "version": source_digest(),
        "address": address or own,
        "cpus": cpus,
        "memory_bytes": memory_bytes,
        "host_id": before.id if before else "",
    }
    answer = _sent(token.door, authority, content)
    guest = Guest(
        id=str(answer["host_id"]),
        name=str(answer["name"]),
        door=token.door,
        authority=authority,
        address=address or own,
        database_url=str(answer["database_url"]),
        redis_url=str(answer["redis_url"]),
    )
    (var / "passage").mkdir(mode=0o700, exist_ok=True)
    keep_certificate(var, str(answer["certificate"]), key)
    keep_keys(var, answer["keys"])
    guest.save(var)  # last: with it the machine has joined
    return guest


def _sent(door: str, authority: str, content: dict[str, Any]) -> dict[str, Any]:
    """The answer to the request to join; a lost one is asked for again, which the other side knows by the key."""
    context = ssl.create_default_context(cadata=authority)
    problem: object = ""
    for attempt in range(4):
        try:
            status, told, _own = ask(door, JOIN, context, "POST", "/hosts/join", content)
        except ssl.SSLCertVerificationError as error:
            raise JoinFailed(_unverified(door, error)) from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            problem = error
        else:
            if status == 200:
                return dict(told)
            if status < 500 and "message" in told:
                raise JoinFailed(str(told["message"]))
            problem = f"it answered {status}"
        time.sleep(0.5 * 2**attempt)
    raise JoinFailed(f"{_no_answer(door, problem)} If it took the invitation, another one is needed. {INVITE}")


# --- keeping the right ----------------------------------------------------------------------------------------------


def identity_path(var: Path) -> Path:
    """What Envoy reads."""
    return var / "passage/identity.json"


def keep_certificate(var: Path, certificate: str, key: str) -> None:
    replace_file(var / "passage/host.pem", f"{certificate.strip()}\n{key.strip()}\n".encode())
    replace_file(identity_path(var), secret(certificate, key))


def keep_keys(var: Path, keys: Any) -> None:
    replace_file(var / "keys.json", json.dumps(keys).encode() + b"\n")


def _kept(var: Path) -> tuple[str, str]:
    """This host's certificate and key. Raises JoinFailed."""
    try:
        certificate, found, key = (var / "passage/host.pem").read_text().partition("-----BEGIN PRIVATE KEY-----")
    except OSError as error:
        raise JoinFailed(f"This host's certificate can't be read: {error}. Join again. {INVITE}") from None
    return certificate, found + key


def enter(var: Path, guest: Guest) -> None:
    """Pass the door: with another certificate, and the installation's keys as they are now. Raises JoinFailed."""
    greet(guest.door, guest.authority)
    try:
        renew(var, guest)
    except (OSError, http.client.HTTPException) as error:
        raise JoinFailed(
            f"The door at {guest.door} is there, but does not let this host (“{guest.name}”) in ({error}): it was "
            f"removed, or its certificate has ended. To join again: make invite-host NAME='{guest.name}' on the main "
            "machine, then here what that prints.",
            passing=isinstance(error, TimeoutError),
        ) from None


def wait_to_enter(var: Path, guest: Guest, pause: Callable[[float], None], say: Callable[[str], None]) -> None:
    """Pass the door, and wait for it as long as it takes: this machine may come back before the main one does.

    Raises JoinFailed for what does not pass by itself.
    """
    told, patience = "", time.monotonic() + ADMISSION_SECONDS
    while True:
        try:
            return enter(var, guest)
        except JoinFailed as error:
            if not error.passing and time.monotonic() > patience:  # who has just joined is let in a moment later
                raise
            if error.passing and told != str(error):
                told = str(error)
                say(f"\n      {told} It is tried again.")
        pause(1.0)


def renew(var: Path, guest: Guest) -> None:
    """Another certificate for the same key. Raises JoinFailed, OSError, HTTPException."""
    from apps.core.certificates import request_for

    _certificate, key = _kept(var)
    name = name_at_door(guest.id, source_digest(), "web")
    content = {"request": request_for(key, REQUESTED_NAME)}
    try:
        status, told, _own = ask(guest.door, name, _own_context(var, guest), "POST", "/hosts/renew", content)
        if status != 200:
            words = f"The installation behind the door answered {status}."
            raise JoinFailed(str(told.get("message", words)), passing=status >= 500)
        keep_certificate(var, str(told["certificate"]), key)
        keep_keys(var, told["keys"])
    except (ValueError, KeyError) as error:
        raise JoinFailed(f"What came from behind the door is no certificate: {error!r}.", passing=True) from None


def renew_if_due(var: Path, guest: Guest) -> bool:
    """Renew a certificate that ends within a month, and say whether it was. Raises JoinFailed."""
    from cryptography import x509

    certificate, _key = _kept(var)
    ends = x509.load_pem_x509_certificate(certificate.encode()).not_valid_after_utc
    if ends - datetime.now(UTC) > RENEW:
        return False
    try:
        renew(var, guest)
    except (OSError, http.client.HTTPException) as error:
        words = f"This host's certificate ends at {ends:%Y-%m-%d} and could not be renewed yet ({error})."
        raise JoinFailed(words, passing=True) from None
    return True


def _own_context(var: Path, guest: Guest) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=guest.authority)
    context.load_cert_chain(os.fspath(var / "passage/host.pem"))
    return context
