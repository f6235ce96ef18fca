"""Cloud services, a module each. Their SDKs are imported only when one is called."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workers.providers.contract import Provider


def provider(name: str) -> Provider:
    """Raises KeyError for a service that this version does not know."""
    if name == "ec2":
        from workers.providers.ec2 import EC2

        return EC2()
    raise KeyError(name)
