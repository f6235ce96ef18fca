"""What an installation makes for itself once and keeps: its private directory, its keys, and this host's id."""

import base64
import binascii
import hashlib
import hmac
import json
import os
import secrets
import stat
import uuid
from dataclasses import dataclass
from pathlib import Path

from controlplane.configuration import Configuration

KEY_BYTES = 32


@dataclass(frozen=True)
class Keys:
    """The installation's keys by id, in order: the first one encrypts, all of them decrypt."""

    by_id: dict[str, bytes]

    def derived(self, purpose: str) -> list[str]:
        """One text secret for each key, for a purpose; the first is in use, the others are still accepted."""
        return [hmac.new(key, purpose.encode(), hashlib.sha256).hexdigest() for key in self.by_id.values()]


def private_directory(path: Path, mode: int = 0o700) -> Path:
    """Make a directory that belongs to this user alone; refuse one that somebody else prepared (as is easy in /tmp)."""
    path.mkdir(parents=True, exist_ok=True, mode=mode)
    seen = path.lstat()
    if not stat.S_ISDIR(seen.st_mode) or seen.st_uid != os.geteuid():
        raise SystemExit(
            f"{path} belongs to somebody else or is no directory. Remove it, or choose another place with WINDLASS_RUN "
            f"or WINDLASS_VAR, for example WINDLASS_VAR={Path.home() / 'windlass-var'}"
        )
    if stat.S_IMODE(seen.st_mode) != mode:
        path.chmod(mode)
    return path


def create_once(path: Path, content: str) -> str:
    """Write a file of mode 0600 unless it is there, whole or not at all, and return what the file holds now.

    Two processes may do this at the same time: both get the content of the one that came first.
    """
    if not path.exists():
        draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            pass  # somebody was faster: theirs is read below
        finally:
            draft.unlink()
    return path.read_text()


def var_directory(configuration: Configuration) -> Path:
    """The directory of all data, made if needed.

    For root its mode is 0711 instead of 0700, since the embedded PostgreSQL runs as another user and must pass it;
    everything inside is private.
    """
    try:
        return private_directory(configuration.var, 0o711 if os.geteuid() == 0 else 0o700)
    except OSError as error:
        raise SystemExit(
            f"WINDLASS_VAR: {configuration.var} cannot be made or used: {error.strerror}. "
            f"A value that works: {Path.home() / 'windlass-var'}"
        ) from None


def new_keys() -> str:
    identifier = secrets.token_hex(4)
    return json.dumps([{"id": identifier, "key": base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()}]) + "\n"


def read_keys(text: str, source: str) -> Keys:
    """Parse key material; `source` is what the message names when it is no good."""
    example = '[{"id": "2026a", "key": "<base64 of 32 random bytes>"}]'
    try:
        found = {str(entry["id"]): base64.b64decode(entry["key"], validate=True) for entry in json.loads(text)}
    except (ValueError, TypeError, KeyError, binascii.Error):
        raise SystemExit(f"{source} holds no list of keys. A value that works: {example}") from None
    if not found or any(len(key) != KEY_BYTES for key in found.values()):
        raise SystemExit(
            f"{source} needs at least one key, and each key must be {KEY_BYTES} bytes long. Make one with: "
            "python3 -c 'import secrets, base64; print(base64.b64encode(secrets.token_bytes(32)).decode())'"
        )
    return Keys(found)


def keys(configuration: Configuration) -> Keys:
    """The keys from WINDLASS_KEYS, WINDLASS_KEYS_FILE, or var/keys.json, which the first start makes.

    With a database of its own elsewhere, keys are never made silently by a second host: data encrypted with them could
    not be read by the first. There, whoever runs `make up` first makes them; other hosts get the same by a setting.
    """
    if configuration.keys:
        return read_keys(configuration.keys, "WINDLASS_KEYS")
    path = configuration.keys_file or configuration.var / "keys.json"
    if configuration.keys_file is None and not path.exists():
        return read_keys(create_once(var_directory(configuration) / "keys.json", new_keys()), str(path))
    try:
        return read_keys(path.read_text(), str(path))
    except OSError as error:
        raise SystemExit(f"WINDLASS_KEYS_FILE: {path} cannot be read: {error.strerror}.") from None


def host_id(configuration: Configuration) -> str:
    """This host's id: WINDLASS_HOST_ID, or the one that the first start put into var/host.json."""
    if configuration.host_id:
        return configuration.host_id
    content = json.dumps({"id": str(uuid.uuid4()), "name": configuration.host_name}) + "\n"
    return str(json.loads(create_once(var_directory(configuration) / "host.json", content))["id"])
