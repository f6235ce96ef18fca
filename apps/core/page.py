"""What a page shows, as plain values: views build these, templates take only these.

Words are ready to be read (figures already written by `apps.core.figures`). A field of type `SafeString` may hold
markup made with `format_html`; every other text is escaped.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from django.utils.html import escape
from django.utils.safestring import SafeString

TONE_ICONS: dict[str, str] = {
    "ok": "circle-check",
    "run": "loader-circle",
    "wait": "circle-dashed",
    "warn": "triangle-alert",
    "bad": "octagon-x",
    "off": "square",
    "sim": "flask-conical",
}
# Words whose shape differs from that of their tone, so that states can be told apart without colour.
WORD_ICONS: dict[str, str] = {
    "Certified": "shield-check",
    "In service": "radio-tower",
    "Scaled to zero": "moon",
    "Not started": "circle",
    "Archived": "archive",
    "Nothing bought yet": "diamond",
    "Paused": "circle-pause",
}


def bold(text: str) -> SafeString:
    """Escaped text whose **marked parts** are bold, as figures are in a lead."""
    return SafeString(re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", escape(text)))


@dataclass(frozen=True)
class Pill:
    """A state: colour, shape and word. `tone` is ok, run, wait, warn, bad, off or sim (as in the phases table).

    `icon` is a symbol of static/icons.svg; without one, the word or the tone picks it.
    """

    tone: str
    word: str
    icon: str = ""

    @property
    def shape(self) -> str:
        return self.icon or WORD_ICONS.get(self.word) or TONE_ICONS[self.tone]


@dataclass(frozen=True)
class Crumb:
    """A step of the breadcrumb; the last one has no `url`."""

    label: str
    url: str = ""


@dataclass(frozen=True)
class Tab:
    """A face of a thing. `count` stands behind the label; None shows none."""

    label: str
    url: str
    current: bool = False
    count: int | None = None


@dataclass(frozen=True)
class Action:
    """A button. `method` "post" sends a form with the CSRF token, an idempotency key and `values`; "get" is a link.

    `dialog` is the id of a DangerDialog on the page, opened instead. `disabled` is the reason why not, shown beside the
    button. `busy` is the word while the form is on its way ("Cancelling").
    """

    label: str
    url: str = ""
    icon: str = ""
    style: Literal["", "primary", "danger", "quiet"] = ""
    method: Literal["get", "post"] = "get"
    values: tuple[tuple[str, str], ...] = ()
    dialog: str = ""
    disabled: str = ""
    busy: str = ""


@dataclass(frozen=True)
class Page:
    """The head of a page. `live` names the rows it is made of ("run:run_01k…"): when they change, it is fetched again.

    `lead` is one sentence, at most two, at most 200 characters. `state` begins the browser's title ("67%").
    """

    title: str
    lead: SafeString | str = ""
    pill: Pill | None = None
    tags: Sequence[str] = ()
    breadcrumbs: Sequence[Crumb] = ()
    tabs: Sequence[Tab] = ()
    actions: Sequence[Action] = ()
    state: str = ""
    live: str = ""

    @property
    def heading(self) -> str:
        """For <title>: the state first, so that a narrow browser tab still tells it."""
        if not self.state:
            return self.title
        return f"{self.state} {self.title}" if self.state[0].isdigit() else f"{self.state}: {self.title}"

    @property
    def favicon(self) -> str:
        tone = self.pill.tone if self.pill else ""
        return {"run": "favicon-run.svg", "bad": "favicon-bad.svg"}.get(tone, "favicon.svg")


@dataclass(frozen=True)
class NavItem:
    """`count` 0 shows none; `warning` puts it in a warn pill."""

    label: str
    url: str
    icon: str = ""
    count: int = 0
    current: bool = False
    warning: bool = False


@dataclass(frozen=True)
class NavGroup:
    """A heading of the sidebar and its items; the first group has no heading."""

    label: str
    items: Sequence[NavItem]


@dataclass(frozen=True)
class Stat:
    """A figure of the stat row: never without its `context` ("359 a GPU")."""

    label: str
    value: str
    context: SafeString | str
    tone: str = ""


@dataclass(frozen=True)
class KeyValue:
    """A line of a key-value list. `url` makes it a link, `mono` an id or code, `copy` adds a copy button for the value
    (`full`, where what is shown is shortened)."""

    label: str
    value: SafeString | str
    url: str = ""
    mono: bool = False
    copy: bool = False
    full: str = ""


@dataclass(frozen=True)
class LoadLine:
    """A figure with its limit. `used` and `limit` are in one unit; `words` say both ("22 of at most 24 differ").

    The fill turns warn from `warn_from` of the limit and bad past it. `mark_percent`: where the limit stands.
    """

    used: float
    limit: float
    words: str
    label: str = ""
    warn_from: float = 0.8
    mark_percent: float = 86

    @property
    def share(self) -> float:
        if self.limit <= 0:
            return 0.0 if self.used <= 0 else 2.0
        return max(0.0, self.used / self.limit)

    @property
    def fill_percent(self) -> float:
        return round(min(100.0, self.share * self.mark_percent), 2)

    @property
    def tone(self) -> str:
        # A millionth of slack: 0.1 + 0.2 of 0.3 is at the limit, not past it.
        if self.share > 1 + 1e-6:
            return "bad"
        return "warn" if self.share >= self.warn_from else "ok"


@dataclass(frozen=True)
class Progress:
    """`share` 0 to 1, or None where the total is not known (then `words` say what is being done)."""

    share: float | None
    words: SafeString | str = ""
    left: str = ""
    tone: str = "run"
    large: bool = False

    @property
    def percent(self) -> float:
        return round(min(1.0, max(0.0, self.share or 0.0)) * 100, 2)


@dataclass(frozen=True)
class PhasePart:
    """A part of the phase timeline; `tone`: wait, run, bad, s1 to s6, lost (hatched) or todo (outlined)."""

    label: str
    seconds: float
    tone: str


@dataclass(frozen=True)
class PlacedPart:
    """A PhasePart with its place on the bar, in percent of its width."""

    part: PhasePart
    start: float
    width: float


@dataclass(frozen=True)
class PhaseTimeline:
    """Where the time went. Parts stand in the order given and add up to the total that is shown beside them."""

    parts: Sequence[PhasePart]

    @property
    def seconds(self) -> float:
        return sum(part.seconds for part in self.parts)

    @property
    def placed(self) -> list[PlacedPart]:
        """Widths by time, but never under half a percent, so that a short phase is still seen."""
        shown = [part for part in self.parts if part.seconds > 0]
        weights = [max(part.seconds / self.seconds, 0.006) for part in shown]
        scale = 100 / sum(weights) if weights else 0
        placed, start = [], 0.0
        for part, weight in zip(shown, weights, strict=True):
            placed.append(PlacedPart(part, round(start, 3), round(weight * scale, 3)))
            start += weight * scale
        return placed

    @property
    def legend(self) -> list[PhasePart]:
        """One line a kind of part, its times summed, in order of first appearance."""
        sums: dict[tuple[str, str], float] = {}
        for part in self.parts:
            if part.seconds > 0:
                sums[part.label, part.tone] = sums.get((part.label, part.tone), 0.0) + part.seconds
        return [PhasePart(label, seconds, tone) for (label, tone), seconds in sums.items()]


@dataclass(frozen=True)
class CodeTab:
    """One way to make a call. `language`: shell, python, javascript or json (for colours)."""

    label: str
    text: str
    language: str = "shell"


@dataclass(frozen=True)
class EmptyState:
    """What is not there, what it is for, how to get it. `sample` says where an example is."""

    title: str
    words: SafeString | str
    actions: Sequence[Action] = ()
    sample: SafeString | str = ""


@dataclass(frozen=True)
class DangerDialog:
    """Asks before something goes. `goes`: (what, price or count); `stops`: what stops working; `stays`: what remains.

    `confirm` is the name to type, set only where something paid or in service goes; the server checks it as `confirm`.
    """

    id: str
    title: str
    url: str
    button: str
    words: str = ""
    goes: Sequence[tuple[str, str]] = ()
    stops: Sequence[str] = ()
    stays: Sequence[str] = ()
    confirm: str = ""
    keep: str = "Keep it"
    values: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class PriceCard:
    """What something costs: `price` with `per`, lines that add up to it, what is not in it, the date of the prices."""

    price: str
    per: str
    words: str = ""
    lines: Sequence[tuple[str, str]] = ()
    excluded: str = ""
    dated: str = ""
    action: Action | None = None


@dataclass(frozen=True)
class Replicas:
    """The replica strip: how many are in each state, at most 24 marks; the words carry the numbers."""

    words: str
    ready: int = 0
    starting: int = 0
    crashed: int = 0
    allowed: int = 0

    @property
    def marks(self) -> list[str]:
        wanted = {"ready": self.ready, "starting": self.starting, "crashed": self.crashed, "allowed": self.allowed}
        return [state for state, count in wanted.items() for _ in range(count)][:24]


@dataclass(frozen=True)
class Bar:
    """A labelled bar of a small bar chart (class probabilities, class balance); `share` 0 to 1."""

    label: str
    share: float
    words: str
    best: bool = False

    @property
    def percent(self) -> float:
        return round(min(1.0, max(0.0, self.share)) * 100, 2)


@dataclass(frozen=True)
class Chart:
    """A line chart drawn from the JSON at `url` (its shape: static/js/chart.js). `summary` says it to those who
    don't see it. `live`: rows whose change brings new points; `every`: seconds after which to ask anyway."""

    id: str
    title: str
    url: str
    summary: str = ""
    note: SafeString | str = ""
    live: str = ""
    height: int = 200
    every: int = 0


@dataclass(frozen=True)
class LogView:
    """A log drawn from the JSON at `url` (see static/js/log.js for its shape); `follow` while lines may still come."""

    id: str
    url: str
    follow: bool = False
    download_url: str = ""
    title: str = "Log"
    sources: Sequence[str] = field(default_factory=tuple)
