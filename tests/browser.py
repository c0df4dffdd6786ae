"""A real headless Chromium, driven through the pipe of its DevTools protocol: no port, no driver."""

import base64
import contextlib
import itertools
import json
import os
import select
import shutil
import signal
import subprocess
import time
from pathlib import Path

PATIENCE = 120  # s, for an answer or an event that may take long on a busy machine

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--no-first-run",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
    "--remote-debugging-pipe",
)


def find() -> str | None:
    """Path of the browser's program."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Browser:
    """A browser with one empty page; a context manager. `errors` has what scripts complained about."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.errors: list[str] = []
        self._numbers = itertools.count(1)
        self._waiting = b""

    def __enter__(self) -> "Browser":
        down_read, down = os.pipe()
        up, up_write = os.pipe()
        # The browser reads commands from descriptor 3 and answers on 4.
        shell = f'exec "$0" "$@" 3<&{down_read} 4>&{up_write}'
        command = [find(), *FLAGS, f"--user-data-dir={self.folder}", "about:blank"]
        with (self.folder / "log").open("w") as log:
            self.process = subprocess.Popen(
                ["bash", "-c", shell, *command],
                pass_fds=(down_read, up_write),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        os.close(down_read)
        os.close(up_write)
        self._down, self._up = down, up
        target = next(t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page")
        attach = {"targetId": target["targetId"], "flatten": True}
        self.session = self.call("Target.attachToTarget", **attach)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        return self

    def __exit__(self, *_):
        # Asked first, since a browser that is killed leaves a folder in /tmp behind.
        self.session = None
        with contextlib.suppress(OSError, RuntimeError, subprocess.TimeoutExpired):
            self.call("Browser.close")
            self.process.wait(PATIENCE)
        # The whole session of our own browser: its renderers would outlive it otherwise.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        os.close(self._down)
        os.close(self._up)

    session: str | None = None

    def call(self, method: str, **parameters) -> dict:
        """One command of the protocol, and its result."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self._down, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            self._note(answer)
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]

    def _read(self) -> dict:
        while b"\0" not in self._waiting:
            if not select.select([self._up], [], [], PATIENCE)[0]:
                raise TimeoutError(f"the browser has not answered for {PATIENCE} s; {self.errors}")
            more = os.read(self._up, 1 << 20)
            if not more:
                raise RuntimeError((self.folder / "log").read_text())
            self._waiting += more
        line, _, self._waiting = self._waiting.partition(b"\0")
        return json.loads(line)

    def _note(self, event: dict) -> None:
        parameters = event.get("params", {})
        if event.get("method") == "Runtime.exceptionThrown":
            self.errors.append(
                parameters["exceptionDetails"].get("exception", {}).get("description", "error")
            )
        elif event.get("method") == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self.errors.append(parameters["entry"]["text"])
        elif event.get("method") == "Page.javascriptDialogOpening":
            self.errors.append(f"dialog: {parameters['message']}")
            self.call("Page.handleJavaScriptDialog", accept=False)

    def open(self, address: str) -> None:
        """Go to an address, or to another part of the same page, and wait until the page has taken it up."""
        moves = self.evaluate(f"location.href !== new URL({json.dumps(address)}).href")
        # Heard after the page's own listeners, which were there before.
        self.evaluate(
            "void (window.moved = new Promise((done) => addEventListener('hashchange', done, {once: true})))"
        )
        if "loaderId" in self.call("Page.navigate", url=address):
            self.until("document.readyState === 'complete'")
        elif moves:
            self.evaluate("moved.then(() => null)")

    def evaluate(self, script: str):
        """Value of a JavaScript expression; promises are waited for."""
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise RuntimeError(result["exceptionDetails"]["exception"].get("description"))
        return result["result"].get("value")

    def until(self, condition: str, patience: float = PATIENCE) -> None:
        """Wait until a JavaScript condition holds."""
        end = time.monotonic() + patience
        while not self.evaluate(f"!!({condition})"):
            if time.monotonic() > end:
                raise TimeoutError(f"{condition}; the page says: {self.text('body')[:500]}; {self.errors}")
            time.sleep(0.02)

    def text(self, selector: str) -> str:
        """Visible text of the first element that a selector finds."""
        return self.evaluate(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''")

    def texts(self, selector: str) -> list[str]:
        """Visible texts of all elements that a selector finds."""
        return self.evaluate(f"[...document.querySelectorAll({json.dumps(selector)})].map(e => e.innerText)")

    def click(self, selector: str) -> None:
        """Click an element."""
        self.evaluate(f"document.querySelector({json.dumps(selector)}).click()")

    def press(self, key: str, code: str = "", number: int = 0, text: str = "") -> None:
        """Press and release a key, as a keyboard would."""
        same = {"key": key, "code": code or key, "windowsVirtualKeyCode": number}
        self.call("Input.dispatchKeyEvent", type="keyDown", **same, **({"text": text} if text else {}))
        self.call("Input.dispatchKeyEvent", type="keyUp", **same)

    def choose(self, name: str, value: str) -> None:
        """Fill in a field of the filters, as its user would."""
        self.evaluate(
            f"(() => {{ const f = document.querySelector('#filters').elements[{json.dumps(name)}];"
            f" f.value = {json.dumps(value)}; f.dispatchEvent(new Event('input', {{bubbles: true}})); }})()"
        )

    def screen(self, width: int, height: int, dark: bool = False, print_: bool = False) -> None:
        """Set the size of the window, light or dark, screen or paper."""
        mobile = {"deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, **mobile)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", media="print" if print_ else "screen", features=[scheme])

    def picture(self, path: Path) -> None:
        """Save what is seen as a PNG."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))
