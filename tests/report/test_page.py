import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import plotly.graph_objects as go
import pytest

from mechaudio.audio.events import Event
from mechaudio.experiments.demo import Demo
from mechaudio.experiments.evaluate import Evaluation
from mechaudio.interventions import ScaleAttention, UpweightAttention
from mechaudio.report import panels, write_page
from mechaudio.report.panels import answer_panel, heads_panel, layers_panel, time_panel
from tests.browser import needs_browser
from tests.viz.made_up import attention, listening, provenance

ATTACK = "<script>document.title='pwned'</script>"


def write(tmp_path, listenings=None, **options):
    options = {"title": "A page", "command": "mechaudio listen clip.wav", **options}
    return write_page([listening()] if listenings is None else listenings, tmp_path / "out" / "index.html", **options)


def evaluation(condition, correct):
    n = len(correct)
    return Evaluation(
        provenance=provenance(),
        condition=condition,
        ids=tuple(map(str, range(n))),
        tasks=("earliest_onset", "latest_offset") * (n // 2),
        options=(("dog", "rain"),) * n,
        answers=("dog",) * n,
        chosen=np.where(correct, 0, 1),
    )


def demo(listenings):
    return Demo(
        provenance=provenance(),
        listenings=tuple(listenings),
        attention=attention(n=4),
        heard=evaluation("audio", [True, True, True, False]),
        deaf=evaluation("silence", [False, True, False, False]),
    )


class Elements(HTMLParser):
    """Every start tag with its attributes, and the texts outside scripts and styles."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.texts, self.inside = [], [], None
        self.feed(page.read_text(encoding="utf-8") if hasattr(page, "read_text") else page)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.inside = tag

    def handle_endtag(self, tag):
        self.inside = None

    def handle_data(self, data):
        if self.inside not in ("script", "style"):
            self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())


def test_the_page_tells_the_answer_and_how_it_was_made(tmp_path):
    text = Elements(write(tmp_path)).text
    assert "It chose dog . ✓ right With silence it would have chosen bell ." in text
    assert "mechaudio listen clip.wav" in text
    assert "tiny" in text


def test_an_unknown_answer_and_unknown_events_are_said_to_be_unknown(tmp_path):
    text = Elements(write(tmp_path, [listening(answer=None, events=(), task=None)])).text
    assert "No right answer was given." in text
    assert "no events are marked" in text


def test_an_open_answer_is_told_without_choices_and_letters(tmp_path):
    nothing = np.zeros(0)
    written = replace(
        listening(answer=None), letters=(), choices=(), choice="A dog barks.", silence_choice=" ",
        probabilities=nothing, silence_probabilities=nothing,
    )  # fmt: skip
    written.attention.mass[..., written.attention.roles.index("choices")] = 0
    text = Elements(write(tmp_path, [written])).text
    assert "It wrote A dog barks. No right answer was given. With silence it would have written nothing." in text
    assert "where the model begins its answer" in text
    assert "the choices" not in text
    assert "letter" not in text


def test_a_change_is_told_in_sentences(tmp_path):
    changed = replace(listening(), interventions=(ScaleAttention(1.5), UpweightAttention(2.0)))
    text = Elements(write(tmp_path, [changed])).text
    assert "of the model under changes: Multiplies the attention scores of audio by 1.5, for" in text
    assert ".." not in text


def test_a_wrong_answer_names_the_right_one(tmp_path):
    assert "✗ wrong The right answer is rain ." in Elements(write(tmp_path, [listening(answer="rain")])).text


def test_what_the_model_did_not_hear_is_told(tmp_path):
    assert (
        "the model takes no more, so 5.0 s at the end of the file were left out"
        in Elements(write(tmp_path, [listening(cut=5.0)])).text
    )


def test_nothing_is_loaded_from_anywhere(tmp_path):
    page = Elements(write(tmp_path, [listening(), listening(seed=1)], demo=demo([listening()])))
    for tag, attributes in page.tags:
        for name in ("src", "href", "data", "action", "poster", "srcset"):
            assert attributes.get(name, "data:").startswith(("data:", "#")), (tag, name, attributes[name][:80])
    policy = next(
        attributes["content"]
        for _, attributes in page.tags
        if attributes.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "http" not in policy


def test_plotly_is_inside_once_and_the_page_stays_below_8_megabytes(tmp_path):
    page = write(tmp_path, [listening(seed=seed, tokens=250, layers=6, heads=8) for seed in range(3)])
    text = page.read_text(encoding="utf-8")
    assert text.count("plotly.js v") == 1
    assert page.stat().st_size < 8e6


def test_no_text_from_outside_becomes_markup(tmp_path):
    asked = listening(
        choices=(ATTACK, "</script><img src=x onerror=alert(1)>", "<b>c</b>"),
        answer=ATTACK,
        source="/sounds/<b>clip</b>.wav",
        text=f"{ATTACK} --> </title>",
        events=(Event(ATTACK, 1.0, 2.0),),
        task=ATTACK,
    )
    page = write(tmp_path, [asked, asked], title=ATTACK, command=f"mechaudio listen {ATTACK}")
    elements = Elements(page)
    plain = Elements(write(tmp_path / "plain", [listening(), listening()]))
    harmless = [tag for tag, _ in plain.tags]
    assert [tag for tag, _ in elements.tags if tag in ("img", "b")] == []
    assert [tag for tag, _ in elements.tags].count("script") == harmless.count("script")
    assert elements.text.count(ATTACK) >= 5
    data = re.findall(
        r'<script type="application/json">(.*?)</script>', page.read_text(encoding="utf-8"), flags=re.DOTALL
    )
    assert len(data) == 10
    assert not any(character in text for text in data for character in "<>&\u2028")


def test_a_page_that_cannot_be_finished_leaves_the_earlier_one_and_no_rest(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    page = write(tmp_path, title="The earlier page")
    before = page.read_bytes()
    monkeypatch.setattr("pathlib.Path.replace", full)
    with pytest.raises(OSError, match="No space left on device"):
        write(tmp_path, title="The later page")
    assert page.read_bytes() == before
    assert [path.name for path in page.parent.iterdir()] == ["index.html"]


def test_a_page_about_nothing_is_refused(tmp_path):
    with pytest.raises(ValueError, match="at least one listening, got none"):
        write(tmp_path, [])


def test_every_figure_says_how_many_questions_it_rests_on():
    many = attention(n=6)
    assert layers_panel(many).note.startswith("mean of n = 6 questions; mean of 2 heads; bands: 95% interval")
    assert heads_panel(many).note == "mean of n = 6 questions"
    assert heads_panel(attention()).note == "this question"
    for panel in (answer_panel(listening()), time_panel(listening())):
        assert panel.how
        assert panel.heading


@needs_browser
def test_a_browser_draws_every_figure_of_a_single_question_without_a_word_of_complaint(tab, tmp_path):
    dom = tab.rendered(write(tmp_path))
    assert tab.complaints == []
    assert dom.count('class="plot js-plotly-plot') == 5
    assert dom.count("main-svg") >= 5
    assert re.search(r'<p id="failure" role="alert" hidden', dom)


@needs_browser
@pytest.mark.parametrize(
    ("fragment", "figures"),
    [("", 2), pytest.param("q2", 5, marks=pytest.mark.whole), pytest.param("made", 0, marks=pytest.mark.whole)],
)
def test_tabs_show_one_part_at_a_time_and_an_address_opens_its_part(tab, tmp_path, fragment, figures):
    pair = [listening(), listening(seed=1, text="And which is last?")]
    dom = tab.rendered(write(tmp_path, pair, demo=demo(pair)), fragment)
    assert tab.complaints == []
    assert dom.count('class="plot js-plotly-plot') == figures
    chosen = fragment or "summary"
    assert re.search(f'id="tab-{chosen}"[^>]*aria-selected="true"', dom)
    assert len(re.findall('role="tab"[^>]*aria-selected="true"', dom)) == 1


@needs_browser
def test_a_browser_runs_nothing_from_outside_texts(tab, tmp_path):
    asked = listening(
        choices=(ATTACK, "</script>" + ATTACK, "<img src=x onerror=\"document.title='pwned'\">"),
        answer=ATTACK,
        text=ATTACK,
        events=(Event("</script>" + ATTACK, 1.0, 2.0),),
        source=ATTACK,
    )
    dom = tab.rendered(write(tmp_path, [asked], title=ATTACK))
    assert tab.complaints == []
    assert "<title>&lt;script&gt;document.title='pwned'&lt;/script&gt;</title>" in dom
    assert "<img" not in dom
    assert dom.count('class="plot js-plotly-plot') == 5


@pytest.mark.whole
@needs_browser
@pytest.mark.parametrize("dark", [False, True])
def test_the_page_is_light_or_dark_as_the_reader_prefers(tab, tmp_path, dark):
    image = pytest.importorskip("PIL.Image", reason="pillow is not installed")
    tab.look(1100, 900, dark=dark)
    tab.rendered(write(tmp_path))
    with image.open(tab.picture(tmp_path / "page.png")) as picture:
        corner = picture.convert("L").getpixel((4, 4))
    assert (corner < 64) if dark else (corner > 192)


@needs_browser
def test_the_browser_would_tell_of_a_broken_script_and_of_a_load_from_outside(tab, tmp_path):
    page = write(tmp_path)
    broken = page.with_name("broken.html")
    text = page.read_text(encoding="utf-8")
    broken.write_text(text.replace('"use strict";', '"use strict"; nowhere();'), encoding="utf-8")
    tab.rendered(broken)
    assert any("Content Security Policy" in line for line in tab.complaints)
    unguarded = re.sub(r"<meta http-equiv[^>]*>", "", broken.read_text(encoding="utf-8"))
    broken.write_text(unguarded, encoding="utf-8")
    tab.rendered(broken)
    assert any("nowhere is not defined" in line for line in tab.complaints)
    broken.write_text(text.replace("</main>", '<img src="https://example.org/x.png"></main>'), encoding="utf-8")
    tab.rendered(broken)
    assert any("https://example.org/x.png" in line for line in tab.complaints)


def test_lines_under_a_title_are_one_line_on_the_page_with_one_mark_between_them():
    figure = go.Figure(layout={"title": {"text": "t", "subtitle": {"text": "one,<br>two;<br>&lt;a&gt;<br>three"}}})
    assert panels.panel("kind", figure, "how").note == "one, two; <a>; three"
