"""What the playground shows: its inputs, images that the model has never seen, and the answer with every class."""

from __future__ import annotations

import json
import logging
from typing import Any

from apps.core import figures
from apps.core.errors import Conflict, Missing
from apps.core.page import Bar, PhasePart, PhaseTimeline
from apps.core.pages.base import WorkspacePage
from apps.core.views import picture_items
from apps.deployments import deployment_page, playground
from apps.deployments.models import Deployment, Revision
from apps.registry.samples import samples

logger = logging.getLogger(__name__)
PICKS = 20


def best_class(classes: list[str], shares: list[float], truth: Any) -> dict[str, Any]:
    """The answer in display size, and every class as a bar."""
    best = max(range(len(shares)), key=shares.__getitem__)
    shown = range(len(classes)) if len(classes) <= 20 else sorted(range(len(classes)), key=lambda at: -shares[at])[:20]
    return {
        "label": classes[best],
        "sure": figures.percent(shares[best]),
        "truth": truth,
        "right": truth is not None and truth["class"] == classes[best],
        "bars": [Bar(classes[at], shares[at], figures.percent(shares[at]), at == best) for at in shown],
    }


def time_split(answer: playground.Answer) -> PhaseTimeline | None:
    """Gateway and way there, key check, waiting, model: the parts add up to the whole."""
    named = (("auth", "Key check", "s3"), ("queue", "Waiting", "s1"), ("model", "Model", "run"))
    parts = [PhasePart(words, answer.times[name] / 1000, tone) for name, words, tone in named if name in answer.times]
    rest = answer.milliseconds / 1000 - sum(part.seconds for part in parts)
    if not parts or rest < 0:
        return None
    return PhaseTimeline([PhasePart("Gateway and way there", rest, "wait"), *parts])


def answering(row: Deployment, revisions: list[Revision]) -> Revision | None:
    """The revision that calls go to now."""
    number = row.serving_revision or row.revision
    return next((item for item in revisions if item.number == number), revisions[0] if revisions else None)


def playground_context(view: WorkspacePage, row: Deployment, revisions: list[Revision]) -> dict[str, Any]:
    revision = answering(row, revisions)
    if revision is None:
        return {"given": "", "picks": [], "drawable": None}
    if view.may_write:
        playground.key_secret(view.workspace)  # made now, replicas know it by the time somebody has drawn
    signature = revision.export.signature
    body = playground.template(signature)
    drawable = playground.picture_size(signature)
    wants_tensor = drawable is None or view.request.GET.get("input") == "tensor" or "tensor" in view.request.POST
    picks = [] if drawable is None else unseen(revision)
    return {
        "given": json.dumps(body),
        "drawable": None if wants_tensor else drawable,
        "may_draw": drawable is not None,
        "picks": picks,
        "highest": picks[0]["highest"] if picks else 16,
        "calls": deployment_page.calls(row, revision, body),
        "tensors": signature.get("inputs", []),
    }


def unseen(revision: Revision) -> list[dict[str, Any]]:
    """Held-out images of the export's dataset, two of each class where there are."""
    version = revision.export.dataset_version
    if version is None or version.prepared is None:
        return []
    try:
        items = picture_items(samples(version, split="held_out", offset=0, limit=120))
    except (Conflict, Missing, OSError) as error:  # the picks are a convenience: without them one draws
        logger.warning("no held-out samples of %s: %s", version, error)
        return []
    taken: dict[str, int] = {}
    chosen = []
    for item in items:
        taken[item["class"]] = taken.get(item["class"], 0) + 1
        if taken[item["class"]] <= 2:
            chosen.append(item)
    return sorted(chosen, key=lambda item: item["class"])[:PICKS]
