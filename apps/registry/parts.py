"""How a blob's bytes lie in storage: sealed parts of 16 MiB, each decryptable by itself.

Every blob has its own 256-bit data key. A part is `nonce (12 bytes) || AES-256-GCM(plain part)`, with
`<blob id>|<part number>` as associated data, so parts can't be swapped. Part `n` of blob `b` is stored as
`<storage root>/blobs/<b>/<n>`. Needs `cryptography` only; `carry` uses it without Django.
"""

from __future__ import annotations

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

PART_BYTES = 16 * 1024**2
OVERHEAD_BYTES = 28


class Tampered(Exception):
    """A stored part is not what was written: other key, other place, or changed bytes."""


def new_data_key() -> bytes:
    return AESGCM.generate_key(256)


def part_name(blob_id: str, number: int) -> str:
    return f"blobs/{blob_id}/{number}"


def part_count(size_bytes: int) -> int:
    """At least one: an empty blob has one empty part."""
    return max(1, -(-size_bytes // PART_BYTES))


def seal(data_key: bytes, blob_id: str, number: int, plain: bytes) -> bytes:
    nonce = os.urandom(12)
    return nonce + AESGCM(data_key).encrypt(nonce, plain, f"{blob_id}|{number}".encode())


def unseal(data_key: bytes, blob_id: str, number: int, sealed: bytes) -> bytes:
    """Raises Tampered."""
    try:
        return AESGCM(data_key).decrypt(sealed[:12], sealed[12:], f"{blob_id}|{number}".encode())
    except InvalidTag as error:
        raise Tampered(f"Part {number} of blob {blob_id} is damaged or was written under another key.") from error
