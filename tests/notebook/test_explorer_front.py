"""The explorer's front end in a real browser: on the page that `mechaudio listen` leaves, and over a live model."""

import json
from dataclasses import replace

import numpy as np
import pytest

import mechaudio as ma
from mechaudio.audio.events import Event
from mechaudio.experiments.listen import listen
from mechaudio.notebook.live import Live
from mechaudio.report import write_page
from tests.browser import needs_browser
from tests.live_explorer import MODULE, LiveExplorer

pytestmark = needs_browser
ATTACK = "<img src=x onerror=\"document.title='pwned'\"></script><script>document.title='pwned'</script>"
# A frame draws every part. The first may come before the browser has unpacked the weights: its reading ends in "…".
SETTLED = "document.querySelector('.mx-reading')?.textContent.endsWith(' on the sound')"


@pytest.fixture(scope="module")
def heard(tiny, question):
    return listen(tiny, question)


@pytest.fixture(scope="module")
def written(heard, tmp_path_factory):
    return write_page([heard], tmp_path_factory.mktemp("page") / "index.html", title="A page", command="listen")


@pytest.fixture
def page(tab, written):
    """The page of a question, opened anew."""
    tab.open(written.as_uri())
    tab.wait_for(SETTLED)
    return tab


def pure(tab, expression, **names):
    """The value of an expression in which the module's functions stand, and values of ours."""
    tab.open("about:blank")
    given = "".join(f"const {name} = {json.dumps(value)};" for name, value in names.items())
    return tab.evaluate(f"(async () => {{ const js = await import({MODULE}); {given} return {expression}; }})()")


def texts(tab, selector):
    return tab.evaluate(f"[...document.querySelectorAll({selector!r})].map((each) => each.textContent)")


@pytest.mark.parametrize(("layer", "head"), [(1, 5), (3, None), (None, 2), (None, None)])
def test_the_browser_reads_the_weights_that_were_kept(tab, heard, layer, head):
    sent = json.loads(json.dumps(ma.notebook.explorer_data.rows(heard.pattern)))["288"]
    read = pure(
        tab,
        "Array.from(js.weightsOf(await js.unpacked(sent), {layers: 6, heads: 8}, layer, head))",
        sent=sent, layer=layer, head=head,
    )  # fmt: skip
    weights = heard.pattern.weights[288].astype(np.float64)
    kept = weights[slice(None) if layer is None else [layer]][:, slice(None) if head is None else [head]]
    np.testing.assert_allclose(read, kept.mean((0, 1)), rtol=1e-5, atol=1e-9)


def test_tokens_that_hear_several_stretches_spread_over_them_and_timeless_ones_over_none(tab):
    tokens = [{"heard": [[0, 1], [2, 3]]}, {"heard": [[0.5, 1]]}, {"heard": []}]
    segments, densities, hearing = pure(
        tab,
        "[js.segmentsOf(tokens), js.densitiesOf(js.segmentsOf(tokens), weights), js.hearing(tokens, 0.4, 0.5)]",
        tokens=tokens, weights=[0.4, 0.3, 0.3],
    )  # fmt: skip
    assert [(each["onset"], each["offset"]) for each in segments] == [(0, 0.5), (0.5, 1), (2, 3)]
    assert densities == pytest.approx([0.2, 0.8, 0.2])  # 0.4 over two seconds; 0.3 over half of one
    assert hearing == [0]


def test_layers_without_attention_count_for_nothing(tab):
    row = "{cells: Uint8Array.of(255, 0, 9, 9), largest: Float32Array.of(0.5, NaN)}"
    assert pure(tab, f"Array.from(js.weightsOf({row}, {{layers: 2, heads: 1}}, null, null))") == [0.5, 0]
    assert pure(tab, f"js.weightsOf({row}, {{layers: 2, heads: 1}}, 1, 0)") is None


def test_the_page_shows_the_prompt_its_events_and_its_answer_and_asks_for_nothing(page, question):
    assert [text.split(" ")[0] for text in texts(page, ".mx-event")] == [event.label for event in question.events]
    assert texts(page, ".mx-word")[-1] == "assistant"
    assert texts(page, ".mx-sound") == ["♪ 250 audio tokens · 35%"]
    assert [text[1:].split("✓")[0] for text in texts(page, ".mx-choice")][2] == "motor"
    assert texts(page, ".mx-reading") == ["From assistant, mean of all heads: 35% on the sound"]
    assert page.evaluate("document.querySelector('.mx-editor').hidden")
    assert page.complaints == []
    assert {address.split(":")[0] for address in page.requests} <= {"file", "data", "blob"}


def test_the_page_holds_every_row_of_a_ten_second_clip_in_less_than_ten_megabytes(written, heard):
    assert len(heard.pattern.queries) == heard.pattern.cells.shape[-1] == 289
    assert heard.pattern.cells.shape[1:3] == (6, 8)
    assert written.stat().st_size < 10_000_000
    assert written.read_text(encoding="utf-8").count('"largest":') == 289


def test_it_plays_and_seeks(page):
    page.click(page.place(".mx-picture", 0.5))
    assert page.evaluate("document.querySelector('audio').currentTime") == pytest.approx(5, abs=0.05)
    page.wait_for("document.querySelector('.mx-clock').textContent === '5.0 / 10.0 s'")
    page.click(page.place(".mx-play"))
    page.wait_for("document.querySelector('audio').currentTime > 5.1 && document.querySelector('.mx-playing')")
    page.click(page.place(".mx-play"))
    page.wait_for("document.querySelector('audio').paused && !document.querySelector('.mx-playing')")


def test_attention_follows_the_pointer_and_the_click(page):
    page.hover(page.place(".mx-word:last-child"))
    first = page.evaluate("document.querySelector('.mx-reading').textContent")
    page.hover(page.place(".mx-word[data-position='271']"))  # "earliest"
    page.wait_for("document.querySelector('.mx-reading').textContent.startsWith('From earliest')")
    page.hover(page.place(".mx-grid", 0.5, 0.25))
    page.wait_for("document.querySelector('.mx-reading').textContent.startsWith('From assistant, layer 4, head 3')")
    page.click(page.place(".mx-grid", 0.5, 0.25))
    page.hover(page.place("h1"))
    assert page.evaluate("[...document.querySelectorAll('.mx-bar select')].map((box) => box.value)") == ["4", "3"]
    page.click(page.place(".mx-track", 0.61))
    page.hover(page.place("h1"))
    page.wait_for("document.querySelector('.mx-reading').textContent.startsWith('From ♪ 6.08 s, layer 4, head 3')")
    assert first.startswith("From assistant, mean of all heads")


def test_seconds_and_words_are_selected_by_dragging(page):
    page.drag(*(page.place(".mx-picture", part) for part in (0.3, 0.4, 0.5)))
    page.wait_for("document.querySelector('.mx-selected').textContent.startsWith('3.00 to 5.00 s: ')")
    assert texts(page, ".mx-selected")[0].endswith("of its attention, 50 tokens")
    page.drag(*(page.place(f".mx-word[data-position='{position}']") for position in (270, 271, 272)))
    page.wait_for("document.querySelector('.mx-selected').textContent.startsWith('“the earliest onset”: ')")
    assert page.evaluate("document.querySelectorAll('.mx-word[aria-selected=true]').length") == 3


@pytest.mark.whole
def test_all_of_it_can_be_done_with_the_keyboard(page):
    page.evaluate("document.querySelector('.mx-moment').focus()")
    for _ in range(3):
        page.press("ArrowRight")
    page.press("ArrowRight", shift=True)
    page.press("ArrowRight", shift=True)
    page.wait_for("document.querySelector('.mx-selected').textContent.startsWith('0.30 to 0.50 s: ')")
    assert page.evaluate("document.querySelector('.mx-moment').getAttribute('aria-valuetext')") == "0.50 s"
    page.evaluate("document.querySelector('.mx-word[tabindex=\"0\"]').focus()")
    page.press("ArrowLeft")
    page.press("ArrowLeft", shift=True)
    page.wait_for("document.querySelector('.mx-selected').textContent.startsWith('“<|im_end|> <|im_start|>”')")
    page.press("Enter")
    page.wait_for("document.querySelector('.mx-reading').textContent.startsWith('From <|im_end|>')")
    assert texts(page, "[role=status]")[0].startswith("From “<|im_end|>”, mean of all heads: ")


@pytest.mark.parametrize("width", [420, pytest.param(1100, marks=pytest.mark.whole)])
@pytest.mark.parametrize("dark", [pytest.param(False, marks=pytest.mark.whole), True])
def test_it_fits_a_narrow_page_and_follows_its_colours(page, width, dark):
    page.look(width, 900, dark=dark)
    page.wait_for(f"document.querySelector('.mx').hasAttribute('data-dark') === {json.dumps(dark)}")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate("document.querySelector('.mx').scrollWidth <= document.querySelector('.mx').clientWidth")
    columns = page.evaluate(
        "getComputedStyle(document.querySelector('.mx-columns')).gridTemplateColumns.split(' ').length"
    )
    assert columns == (1 if width == 420 else 2)


def test_titles_choices_and_labels_from_outside_only_show(tab, heard, tmp_path):
    pattern = replace(heard.pattern, tokens=(*heard.pattern.tokens[:-1], ATTACK))
    attention = replace(heard.attention, events=((Event(ATTACK, 1.0, 2.0),),))
    hostile = replace(
        heard, text=ATTACK, choices=(ATTACK, "b", "c", "d"), choice="b", answer=ATTACK, pattern=pattern,
        attention=attention,
    )  # fmt: skip
    tab.open(write_page([hostile], tmp_path / "index.html", title=ATTACK, command=ATTACK).as_uri())
    tab.wait_for(SETTLED)
    assert tab.evaluate("document.title") == ATTACK
    assert tab.evaluate("document.querySelectorAll('img').length") == 0
    assert texts(tab, ".mx-event") == [ATTACK]
    assert texts(tab, ".mx-word")[-1] == ATTACK
    assert ATTACK in texts(tab, ".mx-choice")[0]


@pytest.fixture
def notebook(tab, tiny, question):
    return LiveExplorer(tab, Live(tiny, ma.prompt(tiny, [question]), 8))


IN_SHADOW = """(async () => {
  document.body.style.cssText = "background: white; color: rgb(230, 230, 230)";  // of a widget in VS Code's dark themes
  const js = await import(%s);
  window.pair = [1, 2].map(() => {
    const root = document.body.appendChild(document.createElement("div")).attachShadow({mode: "open"});
    root.append(document.head.querySelector("style").cloneNode(true), document.createElement("div"));
    return js.mount(root.lastChild, explorer.data, {ask: () => {}});
  });
  window.light = js.isLight;
})()"""


@pytest.mark.whole
def test_two_explorers_in_shadow_roots_are_apart_and_legible_on_any_ground(notebook):
    tab = notebook.tab
    tab.evaluate(IN_SHADOW % MODULE)
    tab.wait_for("pair.every(({grid, reading}) => grid.width > 9 && reading.textContent.endsWith(' on the sound'))")
    tab.evaluate("pair[0].words.scrollIntoView({block: 'center', behavior: 'instant'})")
    tab.click(tab.evaluate("(({left, top}) => [left + 4, top + 4])(pair[0].wordOf.get(2).getBoundingClientRect())"))
    tab.wait_for("pair[0].state.query === 2")
    assert tab.evaluate("pair[1].state.query") > 2
    assert tab.evaluate("pair.flatMap(({root}) => [...root.querySelectorAll('[id]')]).length") == 0
    assert tab.evaluate("new Set(pair.map(({root}) => root.querySelector('input[type=radio]').name)).size") == 2
    assert tab.evaluate("light(getComputedStyle(pair[0].root).color)")
    assert tab.evaluate("getComputedStyle(pair[0].root).backgroundColor") == "rgb(27, 31, 36)"  # --mx-card, dark


def percents(probabilities):
    return [f"{p:.0%}" if p >= 0.0995 else f"{p:.1%}" for p in probabilities]


def under(model, question, *interventions):
    return percents(ma.answer(model, [question], interventions=interventions)[0].probabilities)


def test_dragging_over_seconds_knocks_them_out_and_the_answer_follows(notebook, tiny, question):
    tab = notebook.tab
    assert texts(notebook.tab, ".mx-value") == under(tiny, question)
    tab.drag(*(tab.place(".mx-picture", part) for part in (0.3, 0.5, 0.7)))
    notebook.answer()
    change = ma.KnockOutAttention(keys="audio[3:7]", queries="behind")
    assert notebook.live.interventions == (change,)
    assert texts(notebook.tab, ".mx-value") == under(tiny, question, change) != under(tiny, question)
    assert "0% of its attention" in texts(tab, ".mx-selected")[0]
    assert texts(tab, ".mx-code") == [f"interventions=[\n    ma.{change!r},\n]"]


def test_a_slider_scales_and_upweights_what_is_selected_and_changes_add_up(notebook, tiny, question):
    tab = notebook.tab
    tab.drag(*(tab.place(f".mx-word[data-position='{position}']") for position in (270, 271, 272)))
    tab.click(tab.place(".mx-how label:nth-child(2) span"))
    tab.evaluate("(({slider}) => { slider.value = 3; slider.dispatchEvent(new Event('input')); })(explorer)")
    notebook.answer()
    scaled = ma.ScaleAttention(3, keys=(270, 271, 272), queries="behind")
    assert notebook.live.interventions == (scaled,)
    assert texts(notebook.tab, ".mx-value") == under(tiny, question, scaled)
    tab.click(tab.place("[data-part=keepButton]"))
    tab.click(tab.place("[data-part=wholeButton]"))
    tab.click(tab.place(".mx-how label:nth-child(3) span"))
    tab.evaluate("(({queriesBox: box}) => { box.value = 'last'; box.dispatchEvent(new Event('change')); })(explorer)")
    notebook.answer()
    louder = ma.UpweightAttention(2, keys="audio")
    assert notebook.live.interventions == (scaled, louder)
    assert texts(notebook.tab, ".mx-value") == under(tiny, question, scaled, louder)
    tab.click(tab.place("[data-part=resetButton]"))
    notebook.answer()
    assert texts(notebook.tab, ".mx-value") == under(tiny, question)


@pytest.mark.whole
def test_one_head_alone_can_be_changed_and_its_attention_shows_it(notebook, tiny, question):
    tab = notebook.tab
    tab.evaluate("explorer.look(1, 5)")
    tab.evaluate("explorer.wholeButton.click()")
    tab.wait_for("explorer.whereBox.options.length === 3")
    tab.evaluate("(({whereBox: box}) => { box.value = 'head'; box.dispatchEvent(new Event('change')); })(explorer)")
    notebook.answer()
    change = ma.KnockOutAttention(keys="audio", queries="behind", layers=1, heads=5)
    assert notebook.live.interventions == (change,)
    assert texts(notebook.tab, ".mx-value") == under(tiny, question, change)
    tab.wait_for("document.querySelector('.mx-reading').textContent.endsWith('layer 1, head 5: 0% on the sound')")


@pytest.mark.whole
def test_what_a_model_writes_to_an_open_question_follows_too(tab, tiny, question):
    asked = ma.AudioQuestion(question.audio, "What do you hear?", answer=f"a {question.answer}")
    notebook = LiveExplorer(tab, Live(tiny, ma.prompt(tiny, [asked]), 8))
    (clean,) = ma.generate(tiny, [asked], max_new_tokens=8).texts
    tab.wait_for("document.querySelector('.mx-answer blockquote')")
    assert texts(tab, ".mx-answer blockquote") == [clean]
    tab.click(tab.place("[data-part=wholeButton]"))
    notebook.answer()
    change = ma.KnockOutAttention(keys="audio", queries="behind")
    (deaf,) = ma.generate(tiny, [asked], max_new_tokens=8, interventions=[change]).texts
    assert texts(tab, ".mx-answer blockquote") == [deaf]
    assert texts(tab, ".mx-answer q") == [clean, f"a {question.answer}"]
    assert deaf != clean
