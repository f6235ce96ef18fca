"""Components keep the page's rules: nothing inline, every state a shape and a word, every figure escaped and named."""

import re

import pytest
from django.template import engines

from apps.core.page import (
    Action,
    CodeTab,
    DangerDialog,
    KeyValue,
    LoadLine,
    PhasePart,
    PhaseTimeline,
    Pill,
    Progress,
    bold,
)
from tests.frontend import preview, samples


def draw(text: str, **context: object) -> str:
    return engines["django"].from_string("{% load windlass %}" + text).render(context)


@pytest.fixture(params=sorted(samples.PAGES))
def html(request: pytest.FixtureRequest) -> str:
    return preview.render(request.param)


def test_no_style_and_no_handler_stands_in_the_markup(html: str) -> None:
    assert not re.search(r"<[^>]+\sstyle\s*=", html)
    assert not re.search(r"<[^>]+\son[a-z]+\s*=", html)
    assert not re.search(r"<script(?![^>]*\ssrc=)|<style", html)


def test_every_icon_is_in_the_sprite(html: str) -> None:
    sprite = (preview.PROJECT / "static/icons.svg").read_text()
    drawn = set(re.findall(r"icons\.svg#([\w-]+)", html))
    assert drawn <= set(re.findall(r'<symbol id="([\w-]+)"', sprite))


def test_ids_are_unique_and_headings_begin_with_one_h1(html: str) -> None:
    ids = re.findall(r'\sid="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    assert len(re.findall(r"<h1", html)) == 1


def test_a_page_is_small(html: str) -> None:
    import gzip

    css = b"".join(path.read_bytes() for path in sorted((preview.PROJECT / "static/css").glob("*.css")))
    assert len(gzip.compress(html.encode())) + len(gzip.compress(css)) < 60_000


def test_states_of_one_colour_differ_in_shape_or_word() -> None:
    assert len({(pill.tone, pill.shape, pill.word) for pill in samples.PILLS}) == len(samples.PILLS)
    assert len({pill.shape for pill in samples.PILLS if pill.tone == "off"}) == 5


def test_the_theme_comes_from_the_cookie_and_nothing_else_is_taken() -> None:
    assert 'data-theme="dark"' in preview.render("overview", "dark")
    assert 'data-theme="system"' in preview.render("overview", '"><script>')


@pytest.mark.parametrize(
    ("used", "tone"), [(0.25, "ok"), (0.4, "warn"), (0.5, "warn"), (0.3 + 0.2, "warn"), (0.51, "bad")]
)
def test_a_load_line_turns_before_its_limit_and_past_it(used: float, tone: str) -> None:
    assert LoadLine(used, 0.5, "").tone == tone


def test_a_load_line_is_a_meter_with_words() -> None:
    html = draw("{% load_line line %}", line=LoadLine(22, 24, "22 of at most 24 differ", "Agreement"))
    assert 'role="meter"' in html and 'aria-valuetext="22 of at most 24 differ"' in html
    assert 'width="78.83%"' in html and 'x="86%"' in html


def test_an_overrun_still_fits_the_track() -> None:
    assert LoadLine(1000, 1, "").fill_percent == 100
    assert LoadLine(1, 0, "").tone == "bad"


def test_phases_fill_the_bar_and_add_up() -> None:
    timeline = PhaseTimeline(
        [
            PhasePart("Waiting", 0.2, "wait"),
            PhasePart("Training", 900, "run"),
            PhasePart("Not recorded", 0, "s1"),
            PhasePart("Training", 100, "run"),
        ]
    )
    assert sum(placed.width for placed in timeline.placed) == pytest.approx(100, abs=0.01)
    assert [(part.label, part.seconds) for part in timeline.legend] == [("Waiting", 0.2), ("Training", 1000)]
    assert PhaseTimeline([]).placed == []


def test_an_unknown_total_shows_no_share() -> None:
    html = draw("{% progress item %}", item=Progress(None, "Reading 412 prices"))
    assert "%" not in html and "Reading 412 prices" in html


def test_an_error_takes_the_hints_place() -> None:
    form = samples.RunForm({"learning_rate": "0,0003", "processes": "many"})
    html = draw("{% form_field form.processes %}", form=form)
    assert 'aria-invalid="true"' in html and 'aria-describedby="id_processes_note"' in html
    assert "Enter a whole number" in html and "One process a core" not in html


def test_text_is_escaped() -> None:
    hostile = "<b>&"
    html = draw(
        "{% key_value lines %}{% pill pill %}{% code_tabs tabs %}{{ lead }}",
        lines=[KeyValue(hostile, hostile, copy=True)],
        pill=Pill("ok", hostile),
        tabs=[CodeTab("x", hostile + '"' + hostile)],
        lead=bold(f"**{hostile}**"),
    )
    assert "<b>" not in html and "<strong>&lt;b&gt;&amp;</strong>" in html


def test_code_keeps_every_character() -> None:
    code = 'import os  # "quoted"\nprint("a#b", \'c\')\nurl = "http://x/y"'
    html = draw("{{ code|highlight:'python' }}", code=code)
    assert re.sub(r"<[^>]+>", "", html).replace("&quot;", '"').replace("&#x27;", "'") == code
    assert 'code--comment">#' in html and 'code--string">&quot;a#b&quot;' in html


def test_a_post_is_sent_with_token_and_key_and_a_refusal_gives_its_reason() -> None:
    post = draw(
        "{% action item %}", item=Action("Cancel run", "/x", method="post", busy="Cancelling"), csrf_token="abc"
    )
    assert 'value="abc"' in post and 'name="idempotency_key"' in post and 'data-busy="Cancelling"' in post
    refused = draw("{% action item %}", item=Action("Deploy", "/x", disabled="Not certified yet"))
    assert "disabled" in refused and "Not certified yet" in refused and "/x" not in refused


def test_a_dialog_opens_without_script(rf: object) -> None:
    dialog = DangerDialog("gone", "Delete x?", "/x", "Delete x", confirm="x")
    asked = engines["django"].from_string("{% load windlass %}{% danger_dialog dialog %}")
    assert " open>" in asked.render({"dialog": dialog}, rf.get("/?ask=gone"))  # type: ignore[attr-defined]
    assert " open>" not in asked.render({"dialog": dialog}, rf.get("/?ask=other"))  # type: ignore[attr-defined]


def test_a_dialog_tells_apart_what_goes_and_what_stays(rf: object) -> None:
    dialog = DangerDialog("gone", "Delete x?", "/x", "Delete x", goes=[("Its URL", "")], stays=["Its exports"])
    asked = engines["django"].from_string("{% load windlass %}{% danger_dialog dialog %}")
    html = asked.render({"dialog": dialog}, rf.get("/"))  # type: ignore[attr-defined]
    places = [html.index(text) for text in ("What goes", "Its URL", "What stays", "Its exports")]
    assert places == sorted(places)


@pytest.mark.parametrize("name", ["404", "403", "403_csrf", "500", "503"])
def test_error_pages_need_no_context(name: str) -> None:
    html = engines["django"].get_template(f"{name}.html").render({})
    assert len(re.findall(r"<h1", html)) == 1 and "style=" not in html


def test_error_pages_keep_the_shell_where_there_is_one() -> None:
    html = engines["django"].get_template("404.html").render({"nav": samples.nav("Overview")})
    assert 'class="sidebar"' in html and "There is nothing here" in html
