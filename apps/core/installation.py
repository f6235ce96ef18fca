"""Which installation this is: a short name, unique in the world, in its database and so in its backups too."""

from __future__ import annotations

from apps.core import ids
from apps.core.models import Installation


def installation_name() -> str:
    """26 characters, lower-case letters and digits; made when it is first asked for."""
    row, _made = Installation.objects.get_or_create(pk=1, defaults={"name": ids.suffix(ids.uuid7())})
    return row.name
