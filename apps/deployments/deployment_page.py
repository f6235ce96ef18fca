"""What the page of one deployment shows: its sentence, replicas, charts, revisions, and how to call it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.utils import timezone

from apps.core import figures
from apps.core.figures import milliseconds, number
from apps.core.overview import TRAFFIC, usage_sums
from apps.core.page import CodeTab, Pill
from apps.core.phases import DELETED
from apps.deployments import playground, services
from apps.deployments.models import Deployment, Revision
from apps.placements.models import Placement
from apps.placements.observation import Observed

RANGES = {
    "15min": ("15 min", timedelta(minutes=15), "minute"),
    "1h": ("1 h", timedelta(hours=1), "minute"),
    "24h": ("24 h", timedelta(hours=24), "hour"),
    "7d": ("7 d", timedelta(days=7), "hour"),
}
USUAL_RANGE = "1h"
REPLICA_PILLS = {
    "ready": Pill("ok", "Ready"),
    "starting": Pill("run", "Starting"),
    "running": Pill("run", "Starting"),
    "backoff": Pill("bad", "Crashed"),
    "draining": Pill("run", "Draining"),
    "exited": Pill("off", "Ended"),
}


def lead(deployment: Deployment) -> str:
    """Is it answering, and how well?"""
    if deployment.phase == "stopped":
        return "**Stopped.** It answers nothing and holds nothing. Start it again at any time."
    if deployment.phase not in {"serving", "updating", "degraded"}:
        return deployment.message or "Starting."
    words = deployment.message
    if deployment.phase == "serving" and deployment.ready_replicas >= deployment.replicas:
        replicas = figures.count(deployment.ready_replicas, "replica")
        words = f"r{deployment.serving_revision or deployment.revision} answers on {replicas}."
    traffic = next(iter(usage_sums([deployment])), None)
    if not traffic or not traffic["asked"]:
        state = "**Ready.** " if deployment.phase == "serving" else ""
        return f"{state}{words} No calls in the last 30 minutes."
    asked = traffic["asked"]
    failed = traffic["failed"]
    all_answered = "all answered" if not failed else f"{figures.percent(failed / asked, 2)} failed"
    rate = asked / TRAFFIC.total_seconds()
    speed = f"{number(rate, 1)} requests a second" if rate >= 1 else f"{figures.count(asked, 'call')} in 30 minutes"
    p95 = f", p95 {milliseconds(traffic['weighted'] / asked)}" if traffic["weighted"] is not None else ""
    return f"**{speed}, {all_answered}{p95}.** {words}"


@dataclass(frozen=True)
class Copy:
    """A replica as its host sees it."""

    name: str
    revision: str
    pill: Pill
    address: str
    restarts: str
    message: str


def copies(placements: list[Placement]) -> list[Copy]:
    """Replicas of all placements that live, those of the newest revision first."""
    found = []
    for placement in placements:
        revision = placement.slot.partition("/")[0]
        if not placement.observed:
            continue
        for rank in Observed.from_json(placement.observed).ranks:
            ready = rank.ordinal in placement.ready_ordinals
            pill = REPLICA_PILLS["ready"] if ready else REPLICA_PILLS.get(rank.state, Pill("wait", "Waiting"))
            found.append(
                Copy(
                    name=f"{revision}-{placement.typed_id[-4:]}-{rank.ordinal}",
                    revision=revision,
                    pill=pill,
                    address=f"{rank.address}:{rank.port}" if rank.port else "",
                    restarts=figures.count(rank.restarts, "restart") if rank.restarts else "",
                    message=rank.message,
                )
            )
    return found


def living(deployment: Deployment) -> list[Placement]:
    found = Placement.objects.filter(owner_id=deployment.pk).exclude(
        phase__in=[DELETED, "succeeded", "failed", "cancelled"]
    )
    return list(found.select_related("place__host", "place__cluster").order_by("-pk"))


# --- charts -------------------------------------------------------------------------------------------------------


def chart(deployment: Deployment, name: str, chosen: str) -> dict[str, Any]:
    """`name`: requests, latency or errors; in the shape that static/js/chart.js reads."""
    label, span, bucket = RANGES.get(chosen, RANGES[USUAL_RANGE])
    seconds = services.BUCKETS[bucket]
    until = timezone.now()
    since = until - span
    found = {
        row["starts_at"].timestamp() // seconds * seconds: row
        for row in services.usage_series(deployment, bucket=bucket, since=since, until=until)
    }
    empty = f"No calls in the last {label}."
    if not found:
        return {"x": {"kind": "time"}, "xs": [], "series": [], "empty": empty}
    # The bucket under way is left out, since it would always look like a fall; unless it is all there is.
    first, last = since.timestamp() // seconds * seconds + seconds, until.timestamp() // seconds * seconds
    xs = [first + index * seconds for index in range(int((last - first) // seconds))]
    if not any(x in found for x in xs):
        xs = [*xs, last]
    rows = [found.get(x) for x in xs]
    build = {"requests": _requests, "latency": _latency, "errors": _errors}[name]
    return {"x": {"kind": "time"}, "xs": xs, "empty": empty, **build(rows, seconds)}


def _requests(rows: list[Any], seconds: int) -> dict[str, Any]:
    values = [row["requests"] / seconds if row else 0 for row in rows]
    series = [{"name": "requests a second", "values": values, "colour": 1, "area": True}]
    return {"y": {"format": "rate"}, "series": series}


def _latency(rows: list[Any], seconds: int) -> dict[str, Any]:
    shown = (("p50", 1, False), ("p95", 2, True), ("p99", 3, True))
    series = [
        {
            "name": name,
            "values": [row["latency_ms"].get(name) if row else None for row in rows],
            "colour": colour,
            "dash": dash,
        }
        for name, colour, dash in shown
    ]
    return {"y": {"format": "ms"}, "series": series}


def _errors(rows: list[Any], seconds: int) -> dict[str, Any]:
    values = [row["errors"] / row["requests"] if row and row["requests"] else 0 for row in rows]
    return {
        "y": {"format": "percent", "max": None if any(values) else 0.01},
        "series": [{"name": "failed", "values": values, "colour": 5}],
    }


def has_usage(deployment: Deployment) -> bool:
    return bool(deployment.usage.exists())


# --- calling it ---------------------------------------------------------------------------------------------------


def calls(deployment: Deployment, revision: Revision, body: dict[str, Any]) -> list[CodeTab]:
    """The same call in three languages; what is copied runs unchanged once WINDLASS_KEY is set."""
    url = playground.infer_url(deployment, revision)
    text = json.dumps(body)
    curl = f"curl -s {url} \\\n  -H \"Authorization: Bearer $WINDLASS_KEY\" \\\n  -d '{text}'"
    python = (
        "import os, httpx\n\n"
        f'answer = httpx.post(\n    "{url}",\n'
        '    headers={"Authorization": f"Bearer {os.environ[\'WINDLASS_KEY\']}"},\n'
        f"    json={text},\n)\nprint(answer.json())"
    )
    script = (
        f'const answer = await fetch("{url}", {{\n  method: "POST",\n'
        "  headers: { Authorization: `Bearer ${process.env.WINDLASS_KEY}` },\n"
        f"  body: JSON.stringify({text}),\n}});\nconsole.log(await answer.json());"
    )
    return [CodeTab("curl", curl), CodeTab("Python", python, "python"), CodeTab("JS", script, "javascript")]
