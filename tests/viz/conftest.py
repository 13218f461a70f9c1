import plotly.graph_objects as go
import pytest

from mechaudio.viz.theme import head_room, panel_lines


@pytest.fixture(autouse=True)
def titles_have_room(monkeypatch):
    """Every figure that a test draws has room for all lines of its title, its note and the titles of its panels."""
    update = go.Figure.update_layout

    def updated(figure, *args, **kwargs):
        drawn = update(figure, *args, **kwargs)
        layout = drawn.layout
        if "title" in kwargs and layout.title.text and layout.template.layout.margin.t:
            note = layout.title.subtitle.text
            title = {"text": layout.title.text, **({"subtitle": {"text": note}} if note else {})}
            assert (layout.margin.t or layout.template.layout.margin.t) >= head_room(title, panel_lines(drawn)), title
        return drawn

    monkeypatch.setattr(go.Figure, "update_layout", updated)
