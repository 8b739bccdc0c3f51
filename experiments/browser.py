"""Control a page in a headless Chromium by the DevTools protocol over a pipe: no driver, no port, no network."""

import base64
import contextlib
import itertools
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
_OPTIONS = ("--headless=new", "--no-sandbox", "--disable-gpu-sandbox", "--use-angle=swiftshader",
            "--enable-unsafe-swiftshader", "--hide-scrollbars", "--no-first-run", "--disable-extensions",
            "--disable-background-networking", "--disable-component-update", "--mute-audio",
            "--remote-debugging-pipe", "about:blank")  # fmt: skip


def find_browser() -> str | None:
    """Find a Chromium on this machine; CHROMIUM names another."""
    return os.environ.get("CHROMIUM") or next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One tab. Errors, console warnings and requests to other hosts are collected in lists."""

    def __init__(self, process: subprocess.Popen[bytes], write: int, read: int) -> None:
        self._process, self._write, self._read = process, write, read
        self._numbers, self._buffer = itertools.count(1), b""
        self._session: str | None = None
        self._is_held = False
        self.errors: list[str] = []
        self.requests: list[str] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "Performance"):
            self.send(f"{domain}.enable")

    def send(self, method: str, timeout: float = 60, **params: Any) -> dict[str, Any]:
        """Send a command and wait for its answer."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive(timeout)
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]

    def open(self, path: Path, *, width: int = 1400, height: int = 1000, dark: bool = False) -> float:
        """Open a file in a window of this size; return the seconds until its script has finished."""
        self.show(width, height, dark=dark)
        began = time.perf_counter()
        self.go(path.resolve().as_uri())
        self.wait("document.documentElement?.dataset.ready === 'yes'")
        return time.perf_counter() - began

    def go(self, address: str) -> None:
        """Open an address."""
        self.send("Page.navigate", url=address)

    def processor_seconds(self) -> float:
        """Processor seconds of all browser processes so far, more reliable than wall time on a busy machine."""
        session, self._session = self._session, None
        try:
            found = self.send("SystemInfo.getProcessInfo")["processInfo"]
        finally:
            self._session = session
        return sum(each["cpuTime"] for each in found)

    def show(self, width: int, height: int, *, dark: bool = False) -> None:
        """Set the size of the window and the preferred colour scheme."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.send("Emulation.setDeviceMetricsOverride", **size)

    def run(self, script: str) -> Any:
        """Evaluate an expression and return its value; wait for it if it is a promise."""
        found = self.send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in found:
            raise RuntimeError(found["exceptionDetails"].get("exception", {}).get("description", "the script failed"))
        return found["result"].get("value")

    def wait(self, script: str, seconds: float = 60) -> None:
        """Wait until an expression is true; TimeoutError if it never is."""
        end = time.perf_counter() + seconds
        while not self.run(script):
            if time.perf_counter() > end:
                raise TimeoutError(script)
            time.sleep(0.03)

    def settle(self, selector: str) -> None:
        """Scroll an element to the middle of the window, and wait until the layout above it is stable."""
        before = None
        while before != (before := self._centred(selector)):
            time.sleep(0.25)

    def _centred(self, selector: str) -> tuple[float, float]:
        self.run(f"document.querySelector({json.dumps(selector)}).scrollIntoView({{block: 'center'}})")
        return self.middle(selector)

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Press the mouse, move it and release it; positions in pixels of the window."""
        self.mouse("mouseMoved", start)
        self.mouse("mousePressed", start)
        for share in (0.3, 0.6, 1.0):
            self.mouse("mouseMoved", tuple(a + (b - a) * share for a, b in zip(start, end, strict=True)))
        self.mouse("mouseReleased", end)

    def mouse(self, kind: str, place: tuple[float, ...]) -> None:
        """Send one mouse event."""
        options = {"button": "left", "buttons": 1} if kind != "mouseMoved" or self._is_held else {}
        clicks = {} if kind == "mouseMoved" else {"clickCount": 1}
        self.send("Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], **options, **clicks)
        self._is_held = kind == "mousePressed" or (self._is_held and kind == "mouseMoved")

    def click(self, selector: str) -> None:
        """Click the middle of an element, after scrolling to it."""
        place = self._centred(selector)
        for kind in ("mousePressed", "mouseReleased"):
            self.mouse(kind, place)

    def choose(self, selector: str, file: Path) -> None:
        """Choose a file in a file input, once there is one, as its user would."""
        self.wait(f"document.querySelector({json.dumps(selector)}) !== null", 60)
        root = self.send("DOM.getDocument")["root"]["nodeId"]
        node = self.send("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.send("DOM.setFileInputFiles", nodeId=node, files=[str(file.resolve())])

    def middle(self, selector: str) -> tuple[float, float]:
        """Position of the middle of an element in the window."""
        box = self.run(f"(({{x, y, width, height}}) => [x + width / 2, y + height / 2])"
                       f"(document.querySelector({json.dumps(selector)}).getBoundingClientRect())")  # fmt: skip
        return box[0], box[1]

    def key(self, name: str) -> None:
        """Press and release, as in "ArrowRight"."""
        for kind in ("keyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, key=name, code=name)

    def picture(self, path: Path, *, top: float = 0, height: int | None = None) -> Path:
        """Write a PNG of the window or of a part of the page."""
        width, shown = self.run("[innerWidth, innerHeight]")
        clip = {"x": 0, "y": top, "width": width, "height": height or shown, "scale": 1}
        found = self.send("Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(found["data"]))
        return path

    def _receive(self, timeout: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            if not select.select([self._read], [], [], timeout)[0]:
                raise TimeoutError("the browser does not answer")
            part = os.read(self._read, 1 << 20)
            if not part:
                raise ConnectionError("the browser has gone")
            self._buffer += part
        message, _, self._buffer = self._buffer.partition(b"\0")
        answer = json.loads(message)
        self._note(answer.get("method", ""), answer.get("params", {}))
        return answer

    def _note(self, event: str, params: dict[str, Any]) -> None:
        if event == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description") or details["text"])
        elif event == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.errors.append(" ".join(str(each.get("value", each.get("description"))) for each in params["args"]))
        elif event == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.errors.append(params["entry"]["text"])
        elif event == "Network.requestWillBeSent":
            url = params["request"]["url"]
            if not url.startswith(("data:", "file:", "blob:", "about:")):
                self.requests.append(url)


@contextlib.contextmanager
def browser(program: str | None = None) -> Iterator[Browser]:
    """Start a separate Chromium, and end it."""
    program = program or find_browser()
    if program is None:
        known = ", ".join(NAMES)
        raise FileNotFoundError(f"There is no Chromium here: install one of {known}, or name it in CHROMIUM.")
    to_child, write = os.pipe()
    read, from_child = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        # Chromium reads commands from descriptor 3 and answers on 4.
        line = 'exec "$0" "$@" 3<&0 4>&1 </dev/null >/dev/null'
        command = ["sh", "-c", line, program, f"--user-data-dir={profile}", *_OPTIONS]
        process = subprocess.Popen(command, stdin=to_child, stdout=from_child, stderr=subprocess.DEVNULL)
        os.close(to_child)
        os.close(from_child)
        try:
            yield Browser(process, write, read)
        finally:
            os.close(write)  # Chromium exits when its pipe is closed
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()
            process.wait()
            os.close(read)
