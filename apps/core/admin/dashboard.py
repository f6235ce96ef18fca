"""The console's first page: whether the machinery turns, and what is stuck."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from functools import reduce
from typing import Any

from django.db.models import Count, Value
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django_celery_beat.models import PeriodicTask

from apps.clusters.models import Host
from apps.core.admin.managed import STATES
from apps.core.figures import ago, count, file_size, short_id
from apps.core.models import Managed
from apps.core.wants import models_by_kind, rows

LATE_SWEEP = timedelta(seconds=30)
LATE_HEARTBEAT = timedelta(seconds=60)
LATE_BEAT = timedelta(minutes=6)  # beat writes its times down every three minutes
LITTLE_DISK_BYTES = 5 * 10**9
TROUBLED = 10


@dataclass(frozen=True)
class Card:
    """`tone`: ok, warn or bad; `words` say what the figure means."""

    title: str
    value: str
    words: str
    tone: str
    url: str


def dashboard(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Adds `cards`, the tables `kinds` and `hosts`, and `troubled` rows; the same number of queries at any size."""
    counted = _counted()
    hosts = list(Host.objects.all())
    context |= {
        "title": "Overview",
        "cards": [*_work_cards(counted), *_machine_cards(hosts), _beat_card()],
        "kinds": {
            "headers": ["Kind", *(words for words, _ in STATES.values())],
            "rows": [
                [_kind_link(kind), *(_cell(kind, state, figures[state]) for state in STATES)]
                for kind, figures in counted.items()
            ],
        },
        "hosts": {
            "headers": ["Host", "Heartbeat", "Sweep", "Disk free", "State"],
            "rows": [
                [
                    _link(host, host.name),
                    ago(host.heartbeat_at),
                    ago(host.swept_at),
                    file_size(host.disk_free_bytes),
                    "Lost" if host.lost_at else "Draining" if host.draining else "Works",
                ]
                for host in hosts
            ],
        },
        "troubled": {
            "headers": ["Row", "Kind", "Phase", "Strikes", "What it says"],
            "rows": [
                [_link(row, short_id(row.typed_id)), row.title, row.current_phase.word, str(row.strikes), row.message]
                for row in _troubled(counted)
            ],
        },
    }
    return context


def _counted() -> dict[str, dict[str, int]]:
    """How many rows of each kind are in each of STATES, in one query; rows at their end are not looked at."""
    parts = []
    for kind, model in models_by_kind().items():
        open_rows: Any = rows(model).filter(due_at__isnull=False).order_by()
        figures = {f"{name}_rows": Count("pk", filter=condition) for name, (_, condition) in STATES.items()}
        parts.append(open_rows.values(kind_name=Value(kind)).annotate(**figures))
    found = {item["kind_name"]: item for item in reduce(lambda left, right: left.union(right, all=True), parts)}
    none = dict.fromkeys((f"{name}_rows" for name in STATES), 0)
    return {kind: {name: found.get(kind, none)[f"{name}_rows"] for name in STATES} for kind in sorted(models_by_kind())}


def _troubled(counted: dict[str, dict[str, int]]) -> list[Managed]:
    """Rows that failed twice or more in a row, the worst first; only kinds that have some are asked."""
    found: list[Managed] = []
    for kind, figures in counted.items():
        if figures["failing"]:
            model = models_by_kind()[kind]
            found += rows(model).filter(STATES["failing"][1], due_at__isnull=False).order_by("-strikes")[:TROUBLED]
    return sorted(found, key=lambda row: -row.strikes)[:TROUBLED]


def _work_cards(counted: dict[str, dict[str, int]]) -> list[Card]:
    total = {state: sum(figures[state] for figures in counted.values()) for state in STATES}
    index = reverse("admin:index")
    quarantined = total["quarantined"]
    return [
        Card("Due now", str(total["due"]), "wait for a worker", "ok" if total["due"] < 100 else "warn", index),
        Card("Leased", str(total["leased"]), "are being worked at", "ok", index),
        Card(
            "Failing",
            str(total["failing"]),
            f"failed twice or more in a row; {quarantined} in quarantine",
            "bad" if quarantined else "warn" if total["failing"] else "ok",
            index,
        ),
    ]


def _machine_cards(hosts: list[Host]) -> list[Card]:
    url, now = reverse("admin:clusters_host_changelist"), timezone.now()
    swept = max((host.swept_at for host in hosts if host.swept_at), default=None)
    late = [host for host in hosts if not host.heartbeat_at or now - host.heartbeat_at > LATE_HEARTBEAT]
    oldest = min((host.heartbeat_at for host in hosts if host.heartbeat_at), default=None)
    disk = min((host.disk_free_bytes for host in hosts if host.disk_free_bytes is not None), default=None)
    lost = f"{count(len(late), 'host')} of {len(hosts)} late" if late else f"of {count(len(hosts), 'host')}, the oldest"
    return [
        Card(
            "Last sweep",
            ago(swept),
            "a worker looked for what is due",
            "ok" if swept and now - swept < LATE_SWEEP else "bad",
            url,
        ),
        Card("Heartbeat", ago(oldest), lost, "bad" if late or not hosts else "ok", url),
        Card(
            "Disk free",
            file_size(disk),
            "on the host that has least",
            "ok" if disk is not None and disk > LITTLE_DISK_BYTES else "warn",
            url,
        ),
    ]


def _beat_card() -> Card:
    last = PeriodicTask.objects.filter(last_run_at__isnull=False).order_by("-last_run_at").first()
    moment = last.last_run_at if last else None
    return Card(
        "Scheduled jobs",
        ago(moment),
        f"last: {last.name}" if last else "none has run yet",
        "ok" if moment and timezone.now() - moment < LATE_BEAT else "warn",
        reverse("admin:django_celery_beat_periodictask_changelist"),
    )


def _list_url(kind: str, **query: str) -> str:
    meta = models_by_kind()[kind]._meta
    return reverse(f"admin:{meta.app_label}_{meta.model_name}_changelist", query=query)


def _kind_link(kind: str) -> SafeString:
    title = str(models_by_kind()[kind]._meta.verbose_name_plural)
    return format_html('<a class="text-link" href="{}">{}</a>', _list_url(kind), title[:1].upper() + title[1:])


def _cell(kind: str, state: str, number: int) -> SafeString | str:
    if not number:
        return "0"
    return format_html('<a class="text-link font-semibold" href="{}">{}</a>', _list_url(kind, work=state), number)


def _link(row: Any, text: str) -> SafeString:
    meta = row._meta
    url = reverse(f"admin:{meta.app_label}_{meta.model_name}_change", args=(row.pk,))
    return format_html('<a class="text-link" href="{}">{}</a>', url, text)
