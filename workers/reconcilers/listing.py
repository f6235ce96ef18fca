"""Which replicas the gateway may send to, from what is ready: the order in which traffic moves."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from apps.deployments.models import Deployment
from apps.placements.models import Placement
from workers.reconcilers.parts import Part, View, is_lost, is_wanted_kind, is_well

Entry = dict[str, Any]


def next_list(row: Deployment, seen: View, blocked: Collection[str]) -> list[Entry]:
    """The list as it should be now. `blocked`: slots of parts that can't become ready as things are.

    - Another revision (or size) takes over when all of it was ready, or all that can be; what there was answers until
      then.
    - Of the wanted revision each place is listed as soon as a replica there is ready, with the weight that it has; a
      place that is not wanted any more stays until all those that are have all their replicas.
    - What stands on a lost host leaves at once, unless nothing else could answer: it may well be cut off from us only.
    """
    entries = {item["placement"]: item for item in row.listing}
    listed = {str(item.pk): item for item in seen.others if str(item.pk) in entries}
    well = {key: item for key, item in listed.items() if is_well(item)}
    before = [entries[key] for key, item in well.items() if not is_wanted_kind(row, item)]
    elsewhere = [entries[key] for key, item in well.items() if is_wanted_kind(row, item)]
    mine = [part for part in seen.parts if part.current and (part.key in entries or part.ready)]
    if before and not _takes_over(seen.parts, entries, blocked):
        return [_entry(row, part) for part in mine if part.key in entries] + elsewhere + before
    found = [_entry(row, part) for part in mine]
    if not all(part.full for part in seen.parts):
        found += elsewhere
    if not seen.ready and not any(item.ready_ordinals for item in well.values()):
        found += [entries[key] for key, item in listed.items() if _may_answer(item)]
    return found


def _takes_over(parts: list[Part], entries: Collection[str], blocked: Collection[str]) -> bool:
    settled = [part for part in parts if part.current and (part.key in entries or part.full)]
    waited_for = [part for part in parts if part not in settled and part.wanted.slot not in blocked]
    return bool(settled) and not waited_for


def _may_answer(placement: Placement) -> bool:
    return is_lost(placement) and not placement.place.gone_at and bool(placement.ready_ordinals)


def _entry(row: Deployment, part: Part) -> Entry:
    return {
        "placement": part.key,
        "revision": row.revision,
        "weight": part.wanted.weight,
        "ordinals": list(range(part.wanted.replicas)),
    }
