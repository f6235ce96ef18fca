"""What every page's frame shows: the navigation with its counts, the workspaces, the stream and the plane's health."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from importlib import metadata
from typing import Any

from django.db import connection
from django.http import HttpRequest
from django.utils import timezone

from apps.accounts.auth import Access
from apps.accounts.models import User, Workspace
from apps.clusters.models import Host
from apps.core.page import NavGroup, NavItem

COUNTS = """
SELECT (SELECT count(*) FROM registry_dataset WHERE workspace_id = %(w)s),
  (SELECT count(*) FROM training_trainingrun
   WHERE workspace_id = %(w)s AND phase IN ('queued', 'starting', 'training', 'cleaning')),
  (SELECT count(*) FROM registry_model WHERE workspace_id = %(w)s),
  (SELECT count(*) FROM exports_export WHERE workspace_id = %(w)s AND phase <> 'deleted'),
  (SELECT count(*) FROM deployments_deployment WHERE workspace_id = %(w)s AND phase <> 'deleted')"""
QUIET_HOST = timedelta(seconds=45)
QUIET_SWEEP = timedelta(seconds=30)


@dataclass(frozen=True)
class Choice:
    """A workspace of the switcher."""

    label: str
    url: str
    current: bool


@cache
def version() -> str:
    try:
        return metadata.version("windlass")
    except metadata.PackageNotFoundError:
        return "0.1"


def frame(request: HttpRequest) -> dict[str, Any]:
    """The context processor. Pages outside a workspace get nothing, and ask the database nothing."""
    access: Access | None = getattr(request, "page_access", None)
    if access is None:
        return {"nav": None, "first_sign_in": nobody_yet}
    workspace, section = access.workspace, getattr(request, "page_section", "")
    root = f"/w/{workspace.slug}/"
    return {
        "workspace": workspace,
        "workspaces": workspaces(request, workspace, section),
        "nav": navigation(workspace, root, section),
        "nav_live": " ".join(f"{kind}:*" for kind in ("training_run", "export", "deployment", "model_version")),
        "nav_live_url": f"{root}navigation?section={section}",
        "home_url": root,
        "stream_url": f"{root}stream",
        "keys_url": f"{root}settings/keys/",
        "health_url": f"{root}health/",
        "health_words": health_words(),
        "version": version(),
    }


def nobody_yet() -> bool:
    """Whether nobody has ever signed in: then the sign-in page says where the first password is."""
    return not User.objects.filter(last_login__isnull=False).exists()


def workspaces(request: HttpRequest, current: Workspace, section: str) -> list[Choice]:
    """Switching keeps the section."""
    user: Any = request.user
    path = "" if section in {"", "overview"} else f"{section}/"
    return [
        Choice(other.name, f"/w/{other.slug}/{path}", other.pk == current.pk)
        for other in Workspace.objects.filter(memberships__user=user)
    ]


def navigation(workspace: Workspace, root: str, section: str) -> list[NavGroup]:
    with connection.cursor() as cursor:
        cursor.execute(COUNTS, {"w": workspace.pk})
        datasets, runs, models, exports, deployments = cursor.fetchone()

    def item(label: str, name: str, icon: str, count: int = 0) -> NavItem:
        return NavItem(label, root if name == "overview" else f"{root}{name}/", icon, count, name == section)

    return [
        NavGroup("", [item("Overview", "overview", "layout-dashboard")]),
        NavGroup(
            "Build and serve",
            [
                item("Datasets", "datasets", "database", datasets),
                item("Training", "training", "activity", runs),
                item("Models", "models", "box", models),
                item("Exports", "exports", "package", exports),
                item("Deployments", "deployments", "radio-tower", deployments),
            ],
        ),
        NavGroup("Machines", [item("Hosts", "hosts", "server"), item("Placements", "placements", "cpu")]),
        NavGroup("Workspace", [item("Events", "events", "list"), item("Settings", "settings", "settings")]),
    ]


def health_words() -> str:
    """In a few words; the health page has them all."""
    now = timezone.now()
    hosts = list(Host.objects.all())
    if not hosts:
        return "No worker has joined yet"
    away = [host.name for host in hosts if host.heartbeat_at is None or host.heartbeat_at < now - QUIET_HOST]
    if away:
        return f"{away[0]} does not report" if len(away) == 1 else f"{len(away)} hosts do not report"
    if all(host.swept_at is None or host.swept_at < now - QUIET_SWEEP for host in hosts):
        return "Sweeps are late"
    return "Control plane healthy"
