"""A certificate as its page shows it: rows with their load line, classes that changed, and the proof."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from apps.core import figures
from apps.core.figures import delta, file_size, milliseconds, number, percent, short_digest, short_id
from apps.core.page import KeyValue, LoadLine
from apps.core.pages import rows
from apps.exports.models import Export
from apps.exports.tolerances import FIGURE_BY_NAME

CLOSE = 0.8
MOST_CLASSES = 12
UNITS = {"share": lambda value: percent(value, 2), "bytes": file_size, "milliseconds": milliseconds}
GROUPS = {"same": "Does it still answer the same?", "gained": "What is gained?"}


@dataclass(frozen=True)
class Row:
    """A figure in words. `line` None: no tolerance was set."""

    title: str
    before: str
    after: str
    change: str
    line: LoadLine | None
    limit: str
    holds: bool
    note: str


def groups(certificate: dict[str, Any]) -> list[tuple[str, list[Row]]]:
    found: dict[str, list[Row]] = {title: [] for title in GROUPS.values()}
    for figure in certificate.get("figures", []):
        found[GROUPS.get(figure["group"], GROUPS["gained"])].append(_row(figure, certificate))
    return [(title, lines) for title, lines in found.items() if lines]


def _row(figure: dict[str, Any], certificate: dict[str, Any]) -> Row:
    write = UNITS.get(figure["unit"], number)
    items = certificate.get("held_out_items")
    title = (
        f"{figure['title']}, {number(items)} items" if figure["name"] == "accuracy_drop" and items else figure["title"]
    )
    after = write(figure["after"]) if figure["after"] is not None else "not a number"
    limit = _limit(figure, write)
    line = None
    if figure["limit"] is not None:
        used = 10.0 if figure["used"] is None else figure["used"]
        line = LoadLine(used, 1, f"{after}, limit {limit}", warn_from=CLOSE)
    return Row(
        title=title,
        before=write(figure["before"]) if figure["before"] is not None else "",
        after=after,
        change=_change(figure),
        line=line,
        limit=limit,
        holds=bool(figure["holds"]),
        note=figure.get("note", "") if line is None else "",
    )


def _change(figure: dict[str, Any]) -> str:
    name, change, note = figure["name"], figure["change"], figure.get("note", "")
    if name == "accuracy_drop" and change is not None:
        return figures.points(change)
    before, after = figure["before"], figure["after"]
    if before and after:
        smaller = after <= before
        times = number(max(before, after) / min(before, after), 1)
        if times == "1.0":
            return "the same"
        words = {"bytes": ("smaller", "larger"), "milliseconds": ("faster", "slower")}.get(
            figure["unit"], ("less", "more")
        )
        return f"{times} × {words[0] if smaller else words[1]}"
    return str(note)


def _limit(figure: dict[str, Any], write: Any) -> str:
    limit = figure["limit"]
    if limit is None:
        return ""
    if figure["name"] == "accuracy_drop":
        return f"at most {delta(-limit * 100, 2)}" if limit else "at most 0"
    word = "at least" if figure["direction"] == "at_least" else "at most"
    return f"{word} {write(limit)}"


@dataclass(frozen=True)
class ClassRow:
    """What became of one class; `lost`: its accuracy fell."""

    name: str
    items: str
    changed: str
    became_right: str
    became_wrong: str
    accuracy: str
    lost: bool


def classes(certificate: dict[str, Any]) -> list[ClassRow]:
    """The classes with changed answers first, the rest put together in one line."""
    found = sorted(certificate.get("by_class", []), key=lambda row: (-row["changed"], -row["became_wrong"]))
    if not any(row["changed"] for row in found):
        return []
    shown = [row for row in found if row["changed"]][:MOST_CLASSES]
    rest = found[len(shown) :]
    lines = [_class(row["class"], [row]) for row in shown]
    if rest:
        lines.append(_class(f"{len(rest)} other classes" if len(rest) > 1 else str(rest[0]["class"]), rest))
    return lines


def _class(name: str, group: list[dict[str, Any]]) -> ClassRow:
    items = sum(row["items"] for row in group)
    net = sum(row["became_right"] - row["became_wrong"] for row in group)
    return ClassRow(
        name=name,
        items=number(items),
        changed=number(sum(row["changed"] for row in group)),
        became_right=number(sum(row["became_right"] for row in group)),
        became_wrong=number(sum(row["became_wrong"] for row in group)),
        accuracy=figures.points(net / items) if items else figures.UNKNOWN,
        lost=net < 0,
    )


def proof(export: Export, root: str) -> list[KeyValue]:
    certificate = export.certificate
    found = [KeyValue("Export", short_id(export.typed_id), mono=True, copy=True, full=export.typed_id)]
    if export.file and export.file.sha256:
        found.append(_digest("File", export.file.sha256))
    for name, digest in sorted((certificate.get("checksums") or {}).items()):
        if not export.file or digest != export.file.sha256:
            found.append(_digest(name, str(digest)))
    version = export.dataset_version
    if version:
        found.append(KeyValue("Held-out data", version.name, rows.url(root, version)))
    versions = certificate.get("versions") or {}
    if versions:
        found.append(KeyValue("Made with", ", ".join(f"{name} {value}" for name, value in versions.items())))
    if certificate.get("latency_runs"):
        found.append(
            KeyValue(
                "Latency of",
                f"{number(certificate['latency_runs'])} calls, {number(certificate.get('threads', 1))} thread",
            )
        )
    if certificate.get("method"):
        found.append(KeyValue("Method", certificate["method"]))
    return found


def _digest(name: str, digest: str) -> KeyValue:
    return KeyValue(name, f"sha256 {short_digest(digest)}", mono=True, copy=True, full=digest)


def figure(export: Export, name: str) -> dict[str, Any] | None:
    return next((item for item in export.certificate.get("figures", []) if item["name"] == name), None)


def broken(export: Export) -> str:
    """The figure outside its limit, as the greyed button says it."""
    for item in export.certificate.get("figures", []):
        if not item["holds"]:
            row = _row(item, export.certificate)
            value = row.change if item["name"] == "accuracy_drop" else row.after
            return f"{FIGURE_BY_NAME[item['name']].title} {value}, you asked for {row.limit}"
    return "Its certificate was rejected"
