"""How the admin console looks, and what stands in its sidebar: the value of UNFOLD."""

from typing import Any

from django.templatetags.static import static
from django.urls import reverse_lazy

# The petrol and the greys of static/css/tokens.css, as scales.
PETROL = {
    "50": "#eff7f8",
    "100": "#dceef0",
    "200": "#b9dde2",
    "300": "#8eccd4",
    "400": "#5cc6d2",
    "500": "#38a9b7",
    "600": "#0b5d6b",
    "700": "#084753",
    "800": "#073b45",
    "900": "#062f37",
    "950": "#031c21",
}
GREYS = {
    "50": "#f2f5f5",
    "100": "#eaefef",
    "200": "#d9e1e2",
    "300": "#b8c6c9",
    "400": "#8c9fa4",
    "500": "#5b6d72",
    "600": "#43555a",
    "700": "#2f4046",
    "800": "#263438",
    "900": "#131c1f",
    "950": "#0d1416",
}


def _group(title: str, *items: tuple[str, str, str]) -> dict[str, Any]:
    """Items: title, icon (a Material symbol), the list's URL name."""
    links = [
        {"title": name, "icon": icon, "link": reverse_lazy(f"admin:{view}")}  # lazy: there are no URLs yet
        for name, icon, view in items
    ]
    return {"title": title, "separator": bool(title), "items": links}


NAVIGATION = [
    _group("", ("Overview", "monitor_heart", "index")),
    _group(
        "Work",
        ("Training runs", "model_training", "training_trainingrun_changelist"),
        ("Exports", "package_2", "exports_export_changelist"),
        ("Deployments", "cell_tower", "deployments_deployment_changelist"),
        ("Model versions", "deployed_code", "registry_modelversion_changelist"),
        ("Dataset versions", "database", "registry_datasetversion_changelist"),
    ),
    _group(
        "Machines",
        ("Placements", "memory", "placements_placement_changelist"),
        ("Places", "dns", "placements_place_changelist"),
        ("Hosts", "computer", "clusters_host_changelist"),
        ("Clusters", "lan", "clusters_cluster_changelist"),
        ("Cloud accounts", "cloud", "clouds_cloudaccount_changelist"),
        ("Gateways", "alt_route", "deployments_gateway_changelist"),
        ("Scheduled jobs", "schedule", "django_celery_beat_periodictask_changelist"),
    ),
    _group(
        "People",
        ("Users", "person", "accounts_user_changelist"),
        ("Workspaces", "workspaces", "accounts_workspace_changelist"),
        ("Memberships", "group", "accounts_membership_changelist"),
        ("API keys", "key", "accounts_apikey_changelist"),
    ),
    _group(
        "Trail",
        ("Events", "timeline", "core_event_changelist"),
        ("Audit", "policy", "accounts_auditentry_changelist"),
    ),
]

UNFOLD: dict[str, Any] = {
    "SITE_TITLE": "Windlass",
    "SITE_HEADER": "Windlass",
    "SITE_SUBHEADER": "Admin console",
    "SITE_URL": "/",
    "SITE_ICON": lambda request: static("favicon.svg"),
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": lambda request: static("favicon.svg")}],
    "SHOW_VIEW_ON_SITE": False,
    "SHOW_BACK_BUTTON": True,
    "BORDER_RADIUS": "7px",
    "COLORS": {"base": GREYS, "primary": PETROL},
    "DASHBOARD_CALLBACK": "apps.core.admin.dashboard.dashboard",
    "SIDEBAR": {"show_search": True, "show_all_applications": True, "navigation": NAVIGATION},
}
