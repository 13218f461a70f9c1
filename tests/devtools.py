"""A page in a real browser that a test can look at, point at and type into: chromium, by the DevTools protocol."""

import base64
import itertools
import json
import os
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import websocket

from tests.browser import CHROMIUM

PATIENCE = 60
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
    "--mute-audio", "--remote-debugging-port=0", "--remote-allow-origins=*",
    "--autoplay-policy=no-user-gesture-required",
)  # fmt: skip
_KEYS = {" ": ("Space", 32), "ArrowLeft": ("ArrowLeft", 37), "ArrowRight": ("ArrowRight", 39), "Enter": ("Enter", 13)}


class Tab:
    """One page. `requests` are the addresses that it asked for, `complaints` what it wrote to the console."""

    def __init__(self, socket: websocket.WebSocket):
        self.socket, self.numbers, self.requests, self.complaints = socket, itertools.count(1), [], []
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict:
        number = next(self.numbers)
        self.socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            message = json.loads(self.socket.recv())
            self._note(message)
            if message.get("id") == number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']['message']}")
                return message["result"]

    def _note(self, message: dict) -> None:
        params = message.get("params", {})
        if message.get("method") == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif message.get("method") == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.complaints.append(details.get("exception", {}).get("description", details["text"]))
        elif message.get("method") == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.complaints.append(params["entry"]["text"])
        elif message.get("method") == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning"):
            self.complaints.append(str([argument.get("value") for argument in params["args"]]))

    def evaluate(self, expression: str) -> Any:
        """The value of an expression, awaited if it is a promise."""
        result = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in result:
            raise RuntimeError(result["exceptionDetails"]["exception"]["description"])
        return result["result"].get("value")

    def wait_for(self, expression: str, patience: float = PATIENCE) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + patience
        while not self.evaluate(f"Boolean({expression})"):
            if time.monotonic() > end:
                raise TimeoutError(f"{expression} did not come true; the page complained of {self.complaints}")
            time.sleep(0.05)

    def open(self, address: str) -> None:
        """Show another page, and forget what the one before asked for and wrote."""
        self.call("Page.navigate", url="about:blank")  # an address that differs in its fragment alone loads nothing
        self.requests.clear()
        self.complaints.clear()
        self.call("Page.navigate", url=address)
        self.wait_for("document.readyState === 'complete'")

    def rendered(self, page: Path, fragment: str = "") -> str:
        """The document as its scripts have made it."""
        self.open(f"{page.resolve().as_uri()}#{fragment}")
        return self.evaluate("document.documentElement.outerHTML")

    def look(self, width: int, height: int, *, dark: bool = False) -> None:
        """Show it in a window of this size, on light or on dark."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=2, mobile=width < 500
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def picture(self, path: Path, selector: str | None = None) -> Path:
        """What the window shows, or one element whole, as PNG."""
        clip: dict[str, Any] = {}
        if selector is not None:
            box = self.evaluate(f"(({BOX})({selector!r}))")
            clip = {"clip": {**box, "scale": 1}, "captureBeyondViewport": True}
        shot = self.call("Page.captureScreenshot", **clip)
        path.write_bytes(base64.b64decode(shot["data"]))
        return path

    def place(self, selector: str, across: float = 0.5, down: float = 0.5) -> tuple[float, float]:
        """A point of an element in the window, scrolled into view if it is not in it."""
        left, top, width, height = self.evaluate(f"({IN_VIEW})({selector!r})")
        return left + across * width, top + down * height

    def mouse(self, kind: str, at: tuple[float, float], **more: Any) -> None:
        self.call("Input.dispatchMouseEvent", type=f"mouse{kind}", x=at[0], y=at[1], **more)

    def hover(self, at: tuple[float, float]) -> None:
        self.mouse("Moved", at)

    def drag(self, start: tuple[float, float], *stops: tuple[float, float]) -> None:
        """Press at a point, move over others, and let go at the last; without others, click."""
        button = {"button": "left", "buttons": 1, "clickCount": 1}
        self.mouse("Moved", start)
        self.mouse("Pressed", start, **button)
        for stop in stops:
            self.mouse("Moved", stop, **button)
        self.mouse("Released", (start, *stops)[-1], **button)

    click = drag

    def press(self, key: str, *, shift: bool = False) -> None:
        code, number = _KEYS[key]
        event = {"key": key, "code": code, "windowsVirtualKeyCode": number, "modifiers": 8 if shift else 0}
        self.call("Input.dispatchKeyEvent", type="keyDown", **event)
        self.call("Input.dispatchKeyEvent", type="keyUp", **event)


IN_VIEW = """(selector) => {
  const element = document.querySelector(selector);
  const before = element.getBoundingClientRect();
  const hidden = before.top < 80 || before.bottom > innerHeight;
  if (hidden) element.scrollIntoView({block: "center", behavior: "instant"});
  const {left, top, width, height} = element.getBoundingClientRect();
  return [left, top, width, height];
}"""
BOX = """(selector) => {
  const {left, top, width, height} = document.querySelector(selector).getBoundingClientRect();
  return {x: left + scrollX, y: top + scrollY, width, height};
}"""


@contextmanager
def browser(*flags: str):
    """A chromium without a window, with one tab; it goes when the block ends."""
    with tempfile.TemporaryDirectory(prefix="mechaudio-chromium-", ignore_cleanup_errors=True) as profile:
        command = [CHROMIUM, *FLAGS, *flags, f"--user-data-dir={profile}", "about:blank"]
        at_home = {**os.environ, "HOME": profile, "TMPDIR": profile}  # where it leaves more than its profile
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=at_home)
        socket = None
        try:
            socket = websocket.create_connection(
                _address(Path(profile), process),
                timeout=PATIENCE,
                skip_utf8_validation=True,  # seconds, of a whole page
            )
            yield Tab(socket)
        finally:
            if socket is not None:
                socket.close()
            process.terminate()
            process.wait(timeout=PATIENCE)


def _address(profile: Path, process: subprocess.Popen) -> str:
    """Where the first tab listens."""
    import urllib.request

    file, end = profile / "DevToolsActivePort", time.monotonic() + PATIENCE
    while not (file.is_file() and file.read_text().count("\n")):
        if process.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"chromium did not start (exit status {process.poll()})")
        time.sleep(0.05)
    port = file.read_text().split()[0]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=PATIENCE) as answer:
        tabs = json.load(answer)
    return next(tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page")
