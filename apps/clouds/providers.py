"""The cloud services that an account may be of: what their credentials are called and how their regions look.

A plain table for the web process, which never loads an SDK; `workers/providers/` does the work.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from apps.core.errors import FieldError

LONGEST_CREDENTIAL = 4096


@dataclass(frozen=True)
class Credential:
    """A field of the credentials. `pattern`: what the whole of it looks like, `looks` says that in words."""

    name: str
    pattern: re.Pattern[str]
    looks: str
    required: bool = True


@dataclass(frozen=True)
class CloudService:
    """`network`: how the id of a network that is there already looks."""

    name: str
    title: str
    credentials: tuple[Credential, ...]
    region: re.Pattern[str]
    region_example: str
    network: re.Pattern[str]
    network_example: str


VISIBLE = re.compile(r"[!-~]+")
PROVIDERS: Mapping[str, CloudService] = {
    "ec2": CloudService(
        "ec2",
        "Amazon EC2",
        (
            Credential("access_key_id", re.compile(r"[A-Za-z0-9]{4,128}"), "letters and digits, such as AKIA…"),
            Credential("secret_access_key", VISIBLE, "one line without spaces"),
            Credential("session_token", VISIBLE, "one line without spaces", required=False),
        ),
        re.compile(r"[a-z]{2}(?:-[a-z]+){1,3}-[0-9]{1,2}"),
        "eu-central-1",
        re.compile(r"vpc-[0-9a-f]{8,40}"),
        "vpc-0a1b2c3d4e5f67890",
    ),
}


def provider_errors(name: str) -> list[FieldError]:
    if name in PROVIDERS:
        return []
    fix = f"Use one of: {', '.join(PROVIDERS)}."
    return [FieldError("provider", f"Windlass knows no cloud service “{name[:40]}”.", fix)]


def region_errors(service: CloudService, region: str) -> list[FieldError]:
    """By its looks only: whether it is there, and whether the account may use it, is checked with the cloud."""
    if service.region.fullmatch(region):
        return []
    detail = f"“{region[:40]}” does not look like a region of {service.title}."
    return [FieldError("region", detail, f"“{service.region_example}” would be one.")]


def credential_errors(service: CloudService, given: Mapping[str, Any]) -> list[FieldError]:
    """What is missing, unknown or can't be what it says. No value is ever repeated in the words."""
    names = [field.name for field in service.credentials]
    errors = []
    for name in given:
        if name not in names:
            near = difflib.get_close_matches(str(name), names, 1)
            fix = f"Did you mean “{near[0]}”?" if near else f"There are: {', '.join(names)}."
            errors.append(FieldError("credentials", f"{service.title} has no credential “{str(name)[:40]}”.", fix))
    for field in service.credentials:
        value, path = given.get(field.name), f"credentials.{field.name}"
        if value is None or value == "":
            if field.required:
                errors.append(FieldError(path, f"{service.title} needs it.", f"Send it: {field.looks}."))
        elif not isinstance(value, str) or len(value) > LONGEST_CREDENTIAL or not field.pattern.fullmatch(value):
            fix = f"It is {field.looks}. Copy it again, whole."
            errors.append(FieldError(path, "This can't be one.", fix))
    return errors
