"""Tags and filters of Windlass's templates: components from apps.core.page, figures from apps.core.figures."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from django import template
from django.forms import BoundField
from django.forms.widgets import CheckboxInput, CheckboxSelectMultiple, FileInput, RadioSelect, Textarea
from django.template.context import Context
from django.templatetags.static import static
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

from apps.core import figures, page

register = template.Library()

THEMES = ("system", "light", "dark")

FIGURES: dict[str, Callable[..., str]] = {
    "number": figures.number,
    "percent": figures.percent,
    "points": figures.points,
    "delta": figures.delta,
    "file_size": figures.file_size,
    "memory": figures.memory,
    "duration": figures.duration,
    "milliseconds": figures.milliseconds,
    "money": figures.money,
    "rate": figures.rate,
    "ago": figures.ago,
    "short_id": figures.short_id,
    "short_digest": figures.short_digest,
}
for _name, _figure in FIGURES.items():
    register.filter(_name, _figure)

COMPONENTS = (
    "pill",
    "load_line",
    "progress",
    "phase_timeline",
    "code_tabs",
    "empty_state",
    "price_card",
    "replicas",
    "chart",
    "log_view",
)


def _component(name: str) -> None:
    @register.inclusion_tag(f"components/{name}.html", name=name)
    def tag(item: object, **options: object) -> dict[str, object]:
        return {"item": item, **options}


for _name in COMPONENTS:
    _component(_name)


@register.inclusion_tag("components/stat_row.html")
def stat_row(stats: Sequence[page.Stat]) -> dict[str, object]:
    return {"stats": stats}


@register.inclusion_tag("components/key_value.html")
def key_value(lines: Sequence[page.KeyValue]) -> dict[str, object]:
    return {"lines": lines}


@register.inclusion_tag("components/bars.html")
def bars(items: Sequence[page.Bar]) -> dict[str, object]:
    return {"items": items}


@register.inclusion_tag("components/action.html", takes_context=True)
def action(context: Context, item: page.Action, size: str = "") -> dict[str, object]:
    """A button or link; posts carry the CSRF token of the request."""
    return {"item": item, "size": size, "csrf_token": context.get("csrf_token")}


@register.inclusion_tag("components/danger_dialog.html", takes_context=True)
def danger_dialog(context: Context, item: page.DangerDialog) -> dict[str, object]:
    """`?ask=<id>` opens it on the server, so that it works without script."""
    request = context.get("request")
    asked = request is not None and request.GET.get("ask") == item.id
    return {"item": item, "open": asked, "csrf_token": context.get("csrf_token")}


@register.simple_tag
def icon(name: str, size: str = "") -> SafeString:
    """A symbol of static/icons.svg; `size`: small or large. Beside a word, so not read aloud."""
    kind = f"icon icon--{size}" if size else "icon"
    spin = " spin" if name == "loader-circle" else ""
    return format_html(
        '<svg class="{}{}" width="16" height="16" aria-hidden="true"><use href="{}#{}"></use></svg>',
        kind,
        spin,
        static("icons.svg"),
        name,
    )


@register.simple_tag(takes_context=True)
def theme(context: Context) -> str:
    """light, dark or system, from the reader's cookie."""
    request = context.get("request")
    chosen = request.COOKIES.get("theme", "system") if request is not None else "system"
    return chosen if chosen in THEMES else "system"


@register.simple_tag
def idempotency_key() -> SafeString:
    """A hidden field: pressing twice sends the same key, so it happens once."""
    return format_html('<input type="hidden" name="idempotency_key" value="{}">', uuid.uuid4().hex)


@register.simple_tag
def time(moment: datetime | None, style: str = "full") -> SafeString | str:
    """A moment: `style` full (25 November, 10:43 UTC), clock (10:43:12) or ago (14 s ago). The browser turns
    the first two into the reader's zone; the title keeps UTC."""
    if moment is None:
        return "not yet"
    utc = moment.astimezone(UTC)
    if style == "ago":
        text = figures.ago(moment)
    elif style == "clock":
        text = f"{utc:%H:%M:%S}"
    else:
        year = "" if utc.year == datetime.now(UTC).year else f" {utc.year}"
        text = f"{utc.day} {utc:%B}{year}, {utc:%H:%M} UTC"
    machine = utc.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return format_html(
        '<time datetime="{}" title="{}" data-time="{}">{}</time>', machine, f"{utc:%Y-%m-%d %H:%M:%S} UTC", style, text
    )


@register.simple_tag
def pixels(values: Iterable[float], width: int = 8, highest: float = 16.0, label: str = "") -> SafeString:
    """A small one-channel picture as SVG: `values` row by row, 0 (blank) to `highest` (ink)."""
    cells = [float(value) for value in values]
    height = max(1, -(-len(cells) // width))
    squares = (
        (index % width, index // width, f"{min(1.0, value / highest):.2f}")
        for index, value in enumerate(cells)
        if value > 0
    )
    naming = format_html('role="img" aria-label="{}"', label) if label else mark_safe('aria-hidden="true"')
    drawn = format_html_join("", '<rect x="{}" y="{}" width="1" height="1" fill-opacity="{}"/>', squares)
    return format_html(
        '<svg class="pixels" viewBox="0 0 {} {}" shape-rendering="crispEdges" {}>{}</svg>', width, height, naming, drawn
    )


@register.inclusion_tag("components/form_field.html")
def form_field(field: BoundField, unit: str = "", mono: bool = False, **attributes: str) -> dict[str, Any]:
    """A bound field: label above, hint below, the error in the hint's place. Other keywords become attributes of
    the control (`autocomplete="username"`)."""
    widget = field.field.widget
    group = isinstance(widget, RadioSelect | CheckboxSelectMultiple)
    described = f"{field.id_for_label or field.html_name}_note"
    attrs: dict[str, Any] = {key.replace("_", "-"): value for key, value in attributes.items()}
    if mono:
        attrs["class"] = "mono"
    if isinstance(widget, Textarea) and widget.attrs.get("rows") == "10":
        attrs["rows"] = "4"  # Django's own default is taller than any note here
    if field.errors:
        attrs["aria-invalid"] = "true"
    if field.errors or field.help_text:
        attrs["aria-describedby"] = described
    return {
        "field": field,
        "control": field.as_widget(attrs=attrs),
        "unit": unit,
        "described": described,
        "group": group,
        "checkbox": isinstance(widget, CheckboxInput),
        "file": isinstance(widget, FileInput),
        "optional": not field.field.required and not isinstance(widget, CheckboxInput),
    }


CODE = re.compile(
    r"""(?P<comment>(?<!\S)\#[^\n]*|(?<!\S)//[^\n]*)|(?P<string>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')"""
    r"""|(?P<keyword>\b(?:import|from|as|def|return|with|for|in|if|else|await|async|const|let|new|print|function)\b)"""
)


@register.filter
def highlight(text: str, language: str = "") -> SafeString:
    """Code with its strings, comments and (not in shell and JSON) keywords coloured."""
    plain_words = language in ("shell", "json", "")
    parts: list[str] = []
    position = 0
    for match in CODE.finditer(text):
        kind = str(match.lastgroup)
        if kind == "keyword" and plain_words:
            continue
        parts.append(format_html("{}", text[position : match.start()]))
        parts.append(format_html('<span class="code--{}">{}</span>', kind, match.group()))
        position = match.end()
    parts.append(format_html("{}", text[position:]))
    return SafeString("".join(parts))  # every part went through format_html
