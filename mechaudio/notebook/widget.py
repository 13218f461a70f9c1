"""The explorer as a widget; needs anywidget."""

from __future__ import annotations

from typing import Any

import anywidget
import traitlets

from mechaudio.notebook.explorer_data import front
from mechaudio.notebook.live import Live
from mechaudio.tracing.edit import Intervention


class Explorer(anywidget.AnyWidget):
    """A question, its attention and its answer, to be looked at and changed; `ma.explore` makes it."""

    _esm = front("explorer.js")
    _css = front("explorer.css")
    data = traitlets.Dict().tag(sync=True)

    def __init__(self, live: Live, data: dict[str, Any]):
        """Show some data and answer for a live model.

        Args:
            live: The model with its prompt.
            data: As `explorer_data` makes it.
        """
        super().__init__(data=data)
        self._live = live
        self.on_msg(self._take)

    @property
    def interventions(self) -> tuple[Intervention, ...]:
        """The changes that are in force now, for `ma.run`, `ma.sweep`, `ma.evaluate` and the rest."""
        return self._live.interventions

    def _take(self, _widget: Explorer, request: dict[str, Any], _buffers: list) -> None:
        """Reply to a message of the front end; what goes wrong is said there, too."""
        known = {name: request[name] for name in ("view", "number", "kind")}
        try:
            self.send(known | self._live.reply(request))
        except Exception as error:
            self.send(known | {"kind": "problem", "message": str(error)})
            if not isinstance(error, (IndexError, TypeError, ValueError)):
                raise

    def __repr__(self) -> str:
        """The question; a notebook shows the explorer."""
        return f"<Explorer of {self._live.question.text!r} in {self._live.batch.made_for}>"
