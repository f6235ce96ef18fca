"""Secrets at rest: AES-256-GCM under the installation's key, bound to where they stand.

The first key of `settings.WINDLASS_KEYS` encrypts, every key decrypts; a sealed value carries its key's id, so
rotating is putting a new key first. The associated data is workspace|table|row|field: a sealed value that is copied
to another row does not open there.
"""

from __future__ import annotations

import base64
import os
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.conf import settings
from django.db import models


class CannotUnseal(Exception):
    """The key that sealed it is gone, or the value was moved or changed."""


def context_of(row: models.Model, field: str) -> str:
    workspace: Any = getattr(row, "workspace_id", "")
    return f"{workspace}|{row._meta.db_table}|{row.pk}|{field}"


def seal(value: bytes, context: str) -> str:
    key_id, key = next(iter(settings.WINDLASS_KEYS.items()))
    nonce = os.urandom(12)
    return f"{key_id}.{base64.b64encode(nonce + AESGCM(key).encrypt(nonce, value, context.encode())).decode()}"


def unseal(sealed: str, context: str) -> bytes:
    """Raises CannotUnseal."""
    key_id, _, text = sealed.partition(".")
    key = settings.WINDLASS_KEYS.get(key_id)
    if key is None:
        raise CannotUnseal(f"The key “{key_id}” that sealed this is not among WINDLASS_KEYS. Add it back.")
    raw = base64.b64decode(text)
    try:
        return AESGCM(key).decrypt(raw[:12], raw[12:], context.encode())
    except InvalidTag as error:
        raise CannotUnseal("This sealed value was changed, or belongs to another row.") from error


def seal_field(row: models.Model, field: str, value: bytes) -> None:
    setattr(row, field, seal(value, context_of(row, field)))


def unseal_field(row: models.Model, field: str) -> bytes:
    return unseal(getattr(row, field), context_of(row, field))
