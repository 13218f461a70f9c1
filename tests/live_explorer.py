"""The explorer's front end over a live model, whose messages are carried by hand in the place of a kernel."""

import json

from mechaudio.notebook.explore import shown
from mechaudio.notebook.explorer_data import front
from mechaudio.notebook.live import Live
from tests.devtools import Tab

#: The address of the front end, a JavaScript expression.
MODULE = f"URL.createObjectURL(new Blob([{json.dumps(front('explorer.js'))}], {{type: 'text/javascript'}}))"
_MOUNT = """(async () => {
  const added = (tag, content) => document.head.append(Object.assign(document.createElement(tag), content));
  added("style", {textContent: %(style)s});
  added("meta", {name: "viewport", content: "width=device-width"});
  document.body.innerHTML = "<div></div>";
  const {mount} = await import(%(module)s);
  window.requests = [];
  window.explorer = mount(document.body.firstChild, %(data)s, {ask: (request) => requests.push(request)});
})()"""


class LiveExplorer:
    """`explorer` in the page, and the model behind it."""

    def __init__(self, tab: Tab, live: Live, *, width: int = 1100, height: int = 1200, dark: bool = False):
        self.tab, self.live = tab, live
        tab.look(width, height, dark=dark)
        tab.open("about:blank")
        parts = {"style": front("explorer.css"), "data": shown(live)}
        tab.evaluate(_MOUNT % {"module": MODULE, **{name: json.dumps(part) for name, part in parts.items()}})
        tab.wait_for("document.querySelector('.mx-grid').width > 9")

    def answer(self) -> None:
        """Carry requests to the model, and replies back, until there are no more and the last is drawn."""
        pause = "new Promise((next) => setTimeout(() => next(requests.shift() ?? null), 60))"
        while request := self.tab.evaluate(pause):
            reply = {"number": request["number"], "kind": request["kind"], **self.live.reply(request)}
            self.tab.evaluate(f"explorer.take({json.dumps(reply)}).then(() => new Promise(requestAnimationFrame))")
