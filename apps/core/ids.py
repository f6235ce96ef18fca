"""Identifiers: UUIDv7 (RFC 9562), shown typed as `run_` and 26 Crockford base32 characters (the TypeID form)."""

from __future__ import annotations

import os
import time
import uuid

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
LENGTH = 26


def uuid7() -> uuid.UUID:
    """48 bits of milliseconds, then random bits: rows made later sort later."""
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10))
    value = value & ~(0xF << 76) | 0x7 << 76
    return uuid.UUID(int=value & ~(0x3 << 62) | 0x2 << 62)


def suffix(value: uuid.UUID) -> str:
    number = value.int
    characters = []
    for _ in range(LENGTH):
        characters.append(ALPHABET[number & 31])
        number >>= 5
    return "".join(reversed(characters))


def typed(prefix: str, value: uuid.UUID) -> str:
    return f"{prefix}_{suffix(value)}"


def parse(prefix: str, text: str) -> uuid.UUID:
    """Raises ValueError, with words for a user, unless `text` is an id of this type."""
    head, _, tail = text.partition("_")
    if head != prefix or len(tail) != LENGTH:
        raise ValueError(
            f"“{text[:60]}” is not an id of this kind: it starts with {prefix}_ and has 26 more characters."
        )
    number = 0
    for character in tail:
        digit = ALPHABET.find(character)
        if digit < 0:
            raise ValueError(f"“{text[:60]}” is not an id: “{character}” can't stand in one.")
        number = number << 5 | digit
    if number >> 128:
        raise ValueError(f"“{text[:60]}” is not an id: it is out of range.")
    return uuid.UUID(int=number)
