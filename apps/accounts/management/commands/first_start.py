"""The very first start: an administrator, a workspace, an API key, and an example dataset. Later starts do nothing."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand
from django.db import connection, transaction

from apps.accounts import services
from apps.accounts.models import Role, User
from apps.core.actor import WINDLASS
from apps.registry import blobs
from apps.registry.services import create_dataset, create_dataset_version

EMAIL = "admin@windlass.local"
SLUG = "default"
EXAMPLE_PROGRAM = "workers.inspection.example_digits"
EXAMPLE_SECONDS = 120


class Command(BaseCommand):
    help = "Make the administrator, the workspace “default”, an API key and the example dataset, once."

    def handle(self, *args: Any, **options: Any) -> None:
        if User.objects.exists():
            return
        example = example_digits()
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended('first_start', 0))")
            if User.objects.exists():
                return
            credentials = set_up(example)
            path = write_private(settings.WINDLASS_VAR / "credentials.json", credentials)
        self.stdout.write(
            "\n".join(
                (
                    "",
                    "  Your administrator, shown once and kept in a file that only you can read:",
                    f"    sign in once   {credentials['sign_in_link']}",
                    f"    e-mail         {credentials['email']}",
                    f"    password       {credentials['password']}",
                    f"    API key        {credentials['api_key']}",
                    f"    file           {path}",
                    "",
                )
            )
        )


def example_digits() -> bytes:
    """The example as a program of its own makes it, so that its libraries never load here."""
    with tempfile.TemporaryDirectory(prefix="windlass-example-") as folder:
        path = Path(folder) / "digits.npz"
        subprocess.run(
            [str(settings.WINDLASS_PYTHON), "-m", EXAMPLE_PROGRAM, str(path)],
            cwd=settings.BASE_DIR,
            check=True,
            timeout=EXAMPLE_SECONDS,
        )
        return path.read_bytes()


def set_up(example: bytes) -> dict[str, str]:
    """All rows of a new installation, in the caller's transaction; returns what is shown once."""
    password = secrets.token_urlsafe(18)
    user = User.objects.create_superuser(EMAIL, password, first_name="Administrator")
    workspace = services.create_workspace(WINDLASS, slug=SLUG, name="Default", admin=user)
    new = services.create_api_key(workspace, user.actor, name="first key", role=Role.ADMIN)
    token = services.make_link(user)
    dataset = create_dataset(
        workspace,
        WINDLASS,
        name="digits",
        description="1,797 images of handwritten digits, 8 x 8 pixels (UCI Machine Learning Repository, CC BY 4.0).",
    )
    blob = blobs.store_bytes(workspace, example)
    create_dataset_version(dataset, WINDLASS, blob=blob, filename="digits.npz")
    return {
        "url": settings.WINDLASS_PUBLIC_URL,
        "email": EMAIL,
        "password": password,
        "workspace": workspace.slug,
        "api_key": new.secret,
        "sign_in_link": f"{settings.WINDLASS_PUBLIC_URL}/accounts/link/{token}",
    }


def write_private(path: Path, content: dict[str, str]) -> Path:
    """Mode 0600 from its first byte, and whole or not there."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(content, file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    return path
