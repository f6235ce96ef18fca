"""What replicas say they answered, from their metrics streams into rows; each request is counted once."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.db.models.functions import Now

from apps.deployments.models import Deployment, UsageCursor, UsageWindow
from apps.placements import services, streams
from apps.placements.models import Placement

READ_BYTES = 256 * 1024


def read_usage(row: Deployment) -> None:
    """The offset moves in the transaction that writes the windows. Call it within one that holds the deployment."""
    placements = services.of_owner(row.pk)
    cursors: dict[UUID, dict[str, UsageCursor]] = {}
    for cursor in UsageCursor.objects.filter(placement_id__in=[item.pk for item in placements]):
        cursors.setdefault(cursor.placement_id, {})[cursor.stream] = cursor
    for placement in placements:
        known = cursors.get(placement.pk, {})
        pulled = {name: size for name, size in placement.log_offsets.items() if name.startswith("metrics-")}
        pushed = {name: cursor.pushed for name, cursor in known.items() if cursor.pushed}
        for stream, size in (pulled | pushed).items():
            offset = known[stream].offset if stream in known else 0
            if size > offset:
                _read_stream(row, placement, stream, offset)


def _read_stream(row: Deployment, placement: Placement, stream: str, offset: int) -> None:
    content, begins = streams.read(placement, stream, offset, READ_BYTES)
    lines, consumed = streams.json_lines(content)
    revision = int(placement.slot.partition("/")[0].removeprefix("r"))
    replica = f"r{revision}-{placement.typed_id[-4:]}-{stream.removeprefix('metrics-')}"
    windows = [window for line in lines if (window := _window(row, revision, replica, line))]
    UsageWindow.objects.bulk_create(windows)
    UsageCursor.objects.update_or_create(
        placement_id=placement.pk,
        stream=stream,
        defaults={"offset": begins + consumed, "updated_at": Now()},
    )


def _window(row: Deployment, revision: int, replica: str, line: dict[str, Any]) -> UsageWindow | None:
    statuses = line.get("requests")
    if not isinstance(statuses, dict) or not isinstance(line.get("time"), int | float):
        return None
    counts = {str(status): int(count) for status, count in statuses.items()}
    seconds = int(line.get("window_seconds", 10))
    return UsageWindow(
        deployment=row,
        revision=revision,
        replica=replica,
        starts_at=datetime.fromtimestamp(line["time"] - seconds, UTC),
        seconds=seconds,
        requests=sum(counts.values()),
        errors=sum(count for status, count in counts.items() if status >= "500"),
        statuses=counts,
        keys=line.get("keys", {}),
        latency_ms=line.get("latency_ms", {}),
    )
