"""What people want of hosts."""

from __future__ import annotations

from apps.accounts import audit
from apps.accounts.models import Workspace
from apps.clusters.models import Host
from apps.core.actor import Actor


def set_draining(host: Host, actor: Actor, draining: bool, workspace: Workspace | None = None) -> Host:
    """A draining host starts nothing new; what runs there goes on to its end."""
    if host.draining != draining:
        Host.objects.filter(pk=host.pk).update(draining=draining)
        action = "host.drain" if draining else "host.undrain"
        audit.record(actor, action, host.typed_id, {"name": host.name}, workspace)
        host.draining = draining
    return host
