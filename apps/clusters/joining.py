"""How a machine elsewhere becomes a host: invited, certified for its own key, renewed, and known at the door.

A host is known by its public key: `Host.certificate_sha256` is the SHA-256 of the key that its client certificate is
for, so that a renewed certificate is nothing new to the door.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import json
import math
import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models.functions import Now
from django.utils import timezone

from apps.accounts import audit
from apps.clusters.models import Authority, Host, HostInvitation
from apps.core import certificates
from apps.core.actor import Actor
from apps.core.errors import Conflict, invalid
from apps.core.sealing import seal_field, unseal_field
from apps.core.version import source_digest

AUTHORITY = "hosts"
INVITATION = timedelta(hours=1)
CERTIFICATE_DAYS = 90.0
SECRET_BYTES = 32


class NotLetIn(Exception):
    """A machine may not join, or not renew. `status`: that of HTTP; the message is for whoever started it there."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


@dataclass(frozen=True)
class Invited:
    """`token` is told once. `command` is what is typed on the other machine."""

    invitation: HostInvitation
    token: str

    @property
    def command(self) -> str:
        return f"make host JOIN={self.token}"


# --- inviting -----------------------------------------------------------------------------------------------------


def invite_host(name: str, actor: Actor) -> Invited:
    """The right to join one host of this name, once, within an hour; or to join again, for one that had joined.

    Raises Invalid for a name that is none or is taken by a host beside the database, Conflict where no door is open.
    """
    address = door_address()
    name = name.strip()
    if not 0 < len(name) <= 100 or not name.isprintable():
        raise invalid(
            "name", "A host needs a name of 1 to 100 characters, without line breaks.", "“second” would work."
        )
    taken = Host.objects.filter(name=name).first()
    if taken and not taken.certificate_sha256:
        raise invalid("name", f"“{name}” is the name of a host that is no guest.", "Choose another name.")
    secret = secrets.token_bytes(SECRET_BYTES)
    with transaction.atomic():
        invitation = HostInvitation.objects.create(
            name=name,
            secret_sha256=_sha256(secret),
            expires_at=timezone.now() + INVITATION,
            created_by=actor.name,
        )
        detail = {"name": name, "again": taken is not None}
        audit.record(actor, "host.invite", invitation.typed_id, detail)
    return Invited(invitation, _token(address, authority().certificate, secret))


def door_address() -> str:
    """ "address:port" where other machines reach the door of the installation that runs. Raises Conflict."""
    try:
        told: dict[str, Any] = json.loads((settings.WINDLASS_DOOR_DIRECTORY / "door.json").read_bytes())
        return str(told["address"])
    except (OSError, ValueError, KeyError):
        raise Conflict(
            "Other machines can't join: the door for them is not open. Stop Windlass, then start it with "
            "WINDLASS_HOSTS_PORT=8443 WINDLASS_HOSTS_ADDRESS=<this machine's address in your network> make up",
            code="NoDoor",
        ) from None


def _token(address: str, certificate: str, secret: bytes) -> str:
    content = {"a": address, "c": certificates.fingerprint(certificate), "s": base64.b64encode(secret).decode()}
    return base64.urlsafe_b64encode(json.dumps(content, separators=(",", ":")).encode()).decode().rstrip("=")


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# --- the authority ------------------------------------------------------------------------------------------------


def authority() -> certificates.Pair:
    """The authority that signs hosts and the door, made when it is first needed. Its key is in memory from here on."""
    row = Authority.objects.filter(name=AUTHORITY).first()
    if row is None:
        made = certificates.make_authority("Windlass hosts")
        row = Authority(name=AUTHORITY, certificate=made.certificate)
        seal_field(row, "sealed_key", made.key.encode())
        try:
            with transaction.atomic():
                row.save(force_insert=True)
        except IntegrityError:  # somebody was faster: theirs counts
            row = Authority.objects.get(name=AUTHORITY)
    return certificates.Pair(row.certificate, unseal_field(row, "sealed_key").decode())


def admitted() -> list[tuple[str, str]]:
    """(host's UUID, SHA-256 of its key) of every host that may pass the door."""
    found = Host.objects.exclude(certificate_sha256="").order_by("pk")
    return [(str(pk), key) for pk, key in found.values_list("pk", "certificate_sha256")]


# --- joining ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Machine:
    """What a machine says of itself when it joins. `host_id`: the host that it was before, if any."""

    request: str
    version: str
    address: str
    cpus: float
    memory_bytes: int
    host_id: str = ""


def join(secret: bytes, machine: Machine) -> dict[str, Any]:
    """Use an invitation: certify the machine's key and make it a host. Raises NotLetIn.

    The same machine may ask again with the same key, since an answer may have been lost.
    """
    check_version(machine.version)
    services = _services()
    key = _key_of_request(machine.request)
    try:
        ipaddress.IPv4Address(machine.address)
    except ValueError:
        raise NotLetIn(400, "A host needs its IPv4 address in your network, for example ADDRESS=10.0.0.6.") from None
    if not (math.isfinite(machine.cpus) and machine.cpus > 0 and 0 < machine.memory_bytes < 2**62):
        raise NotLetIn(400, "A host needs a number of processors and an amount of memory above 0.")
    with transaction.atomic():
        invitation = HostInvitation.objects.select_for_update().filter(secret_sha256=_sha256(secret)).first()
        host = _admit(invitation, machine, key)
        pair = authority()
        certificate = certificates.certify(pair, machine.request, str(host.pk), days=CERTIFICATE_DAYS)
    return {
        "host_id": str(host.pk),
        "name": host.name,
        "certificate": certificate,
        "authority": pair.certificate,
        "keys": _keys(),
        **services,
    }


def check_version(theirs: str) -> None:
    """Raises NotLetIn for a checkout that differs: its worker would misread the rows."""
    if theirs != source_digest():
        raise NotLetIn(
            409,
            f"This machine has another version of Windlass ({theirs[:12] or 'unknown'}) than the installation that it "
            f"would join ({source_digest()[:12]}). Bring both to the same commit (git pull), then try again.",
        )


def _services() -> dict[str, str]:
    """Addresses of PostgreSQL and Valkey that a host reaches by itself; "" for those that are behind the door."""
    urls = {"database_url": settings.WINDLASS_DATABASE_URL, "redis_url": settings.WINDLASS_REDIS_URL}
    for name, url in urls.items():
        if url and _is_here_only(url):
            variable = name.upper()
            raise NotLetIn(
                409,
                f"{variable} of the installation leads to a server that only its own machine reaches. Set it to an "
                "address that other machines reach too, or leave it out, then start Windlass again.",
            )
    return urls


def _is_here_only(url: str) -> bool:
    from urllib.parse import parse_qs, urlsplit

    parts = urlsplit(url)
    named = parse_qs(parts.query)
    host = (named.get("hostaddr") or named.get("host") or [parts.hostname or ""])[0]
    return host in ("", "localhost", "::1") or host.startswith(("/", "127.")) or "socket" in parts.scheme


def _key_of_request(request: str) -> str:
    """SHA-256 of the public key that asks to be certified, and has signed that it does."""
    try:
        found = x509.load_pem_x509_csr(request.encode())
        if not found.is_signature_valid or not isinstance(found.public_key(), ec.EllipticCurvePublicKey):
            raise ValueError
    except ValueError:
        raise NotLetIn(400, "What should be a certificate request is none. Start make host again.") from None
    return _sha256(found.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def _admit(invitation: HostInvitation | None, machine: Machine, key: str) -> Host:
    """The host's row, with this key, within the caller's transaction."""
    again = "On the main machine, make another one: make invite-host NAME=second"
    if invitation is None:
        raise NotLetIn(403, f"This invitation is not known here. {again}")
    if invitation.used_at:
        if invitation.host and invitation.host.certificate_sha256 == key:
            return invitation.host
        raise NotLetIn(403, f"This invitation was used at {invitation.used_at:%Y-%m-%d %H:%M} UTC. {again}")
    if invitation.expires_at <= timezone.now():
        raise NotLetIn(403, f"This invitation ended at {invitation.expires_at:%Y-%m-%d %H:%M} UTC. {again}")
    found = {
        "address": machine.address,
        "cpus": machine.cpus,
        "memory_bytes": machine.memory_bytes,
        "certificate_sha256": key,
    }
    host = Host.objects.select_for_update(no_key=True).filter(name=invitation.name).first()
    if host and not host.certificate_sha256:
        raise NotLetIn(409, f"“{host.name}” is the name of a host that is no guest. {again}")
    if machine.host_id and machine.host_id != (str(host.pk) if host else ""):
        raise NotLetIn(
            409,
            f"This machine's data directory is that of another host than “{invitation.name}”. Invite it under the "
            "name that it had, or start it with a data directory of its own (WINDLASS_VAR=/srv/windlass-2).",
        )
    if host:
        Host.objects.filter(pk=host.pk).update(**found)
    else:
        host = Host.objects.create(name=invitation.name, **found)
    HostInvitation.objects.filter(pk=invitation.pk).update(used_at=Now(), host=host)
    actor = Actor(f"host:{host.typed_id}", host.name)
    audit.record(actor, "host.join", host.typed_id, {"name": host.name, "invitation": invitation.typed_id})
    return host


# --- renewing -----------------------------------------------------------------------------------------------------


def renew(host_id: str, request: str) -> dict[str, Any]:
    """Another certificate for the key of a host that the door let in, and the keys as they are now. Raises NotLetIn."""
    key = _key_of_request(request)
    host = Host.objects.filter(certificate_sha256=key).first()
    if host is None or str(host.pk) != host_id:
        raise NotLetIn(403, "No host with this key is known here: it was removed, or joined anew since.")
    certificate = certificates.certify(authority(), request, host_id, days=CERTIFICATE_DAYS)
    return {"certificate": certificate, "keys": _keys()}


def _keys() -> list[dict[str, str]]:
    """Those of the installation, as `installation.read_keys` reads them."""
    return [{"id": name, "key": base64.b64encode(value).decode()} for name, value in settings.WINDLASS_KEYS.items()]
