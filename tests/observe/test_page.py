"""The page of `linkbox top --web`: in a headless Chromium, and its protection without one."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

pytest.importorskip("starlette", reason="the extra top is not installed")
pytest.importorskip("uvicorn", reason="the extra top is not installed")
pytest.importorskip("typer", reason="the extra cli is not installed")

from linkbox import Backoff, ClientP2P, ServerP2P, monitor
from linkbox.cli.top.web import FILES, POLICY, STATIC

SCRIPT = "<script>alert(1)</script>"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Site:
    """The command, which serves the page."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "linkbox.cli", "top", "--web", *arguments, "--interval", "0.2"],
            stderr=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            text=True,
        )
        assert self.process.stderr is not None
        self.said = ""
        while "serving at" not in self.said:
            line = self.process.stderr.readline()
            assert line, self.said
            self.said += line
        match = re.search(r"http://\S+", self.said)
        assert match is not None
        self.url = match[0]

    def get(self, path: str, host: str | None = None, cookie: str = "") -> http.client.HTTPResponse:
        """A request; returns the head of its answer."""
        place = urlsplit(self.url)
        assert place.port is not None
        connection = http.client.HTTPConnection("127.0.0.1", place.port, timeout=20)
        headers = {"Cookie": cookie} | ({"Host": host} if host else {})
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        connection.close()
        answer.close()
        return answer

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(20)
        if self.process.stderr is not None:
            self.process.stderr.close()


@pytest.fixture
def site(runtime: Path) -> Iterator[Site]:
    made = Site("127.0.0.1:0")
    yield made
    made.close()


# -- without a browser ----------------------------------------------------------------------------------


def test_every_answer_is_protected(site: Site) -> None:
    for path in FILES:
        answer = site.get(path)
        assert answer.status == 200, path
        assert answer.headers["Content-Security-Policy"] == POLICY
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert site.get("/../top.py").status == 404
    assert site.get("/static/index.html").status == 404
    assert "unsafe" not in POLICY


def test_a_page_of_another_name_is_refused(site: Site) -> None:
    """A foreign page could let its name point at this machine."""
    for path in ("/", "/events", "/top.js"):
        assert site.get(path, host="evil.example").status == 421
    assert site.get("/", host="localhost").status == 200


def test_elsewhere_a_token_is_needed(runtime: Path) -> None:
    site = Site("0.0.0.0:0")
    try:
        assert "keep the token to yourself" in site.said
        token = site.url.partition("token=")[2]
        assert len(token) >= 32
        for path in ("/", "/events", "/top.js", "/?token=wrong", "/?token="):
            assert site.get(path).status == 403, path
        assert site.get("/", cookie="linkbox_token=wrong").status == 403
        answer = site.get(f"/?token={token}")
        assert answer.status == 303
        cookie = answer.headers["Set-Cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert site.get("/", cookie=cookie.partition(";")[0]).status == 200
    finally:
        site.close()


def test_an_address_in_use_is_an_error(site: Site) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "linkbox.cli", "top", "--web", urlsplit(site.url).netloc],
        capture_output=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "cannot serve the page" in done.stderr


def test_the_files_name_no_other_place() -> None:
    for name in ("index.html", "top.js", "top.css"):
        text = (STATIC / name).read_text(encoding="utf-8")
        assert not re.findall(r"https?://", text)
        assert "innerHTML" not in text
        assert "style=" not in text
        assert not re.search(r"\son\w+=\"", text)
    assert (STATIC / "uplot-LICENSE.txt").exists()


# -- in a browser ---------------------------------------------------------------------------------------


class Browser:
    """A page in Chromium, with what it has requested and complained about."""

    def __init__(self, context: Any, url: str) -> None:
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page = context.new_page()
        self.page.set_default_timeout(30_000)
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append("a dialog"))
        self.page.goto(url)

    def until(self, condition: str) -> None:
        """Wait for a condition in JavaScript."""
        for _ in range(600):
            if self.page.evaluate(f"Boolean({condition})"):
                return
            self.page.wait_for_timeout(50)  # `wait_for_function` needs eval, which the page forbids.
        raise AssertionError(condition)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium")
    with playwright.sync_playwright() as found:
        browser = found.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def pair(runtime: Path) -> Iterator[tuple[ServerP2P[bytes], ClientP2P[bytes]]]:
    """A server and a client of this process, which is monitored."""
    monitor.start()
    server = ServerP2P("tcp://127.0.0.1:0", name="the server").start()
    backoff = Backoff(initial=0.05, maximum=0.05)
    client = ClientP2P(server.address, name=SCRIPT, reconnect=backoff).start()
    yield server, client
    client.stop(0.0)
    server.stop(0.0)


LOOKS = [
    pytest.param("light", 1280, 800, id="light"),
    pytest.param("dark", 1280, 800, id="dark"),
    pytest.param("dark", 390, 844, id="phone"),
]
ROW = "[...document.querySelectorAll('#rows tr')].find(row => row.textContent.includes('{}'))"
CLIENT, SERVER = ROW.format("ClientP2P"), ROW.format("ServerP2P")


@pytest.mark.timeout(180)
@pytest.mark.parametrize(("scheme", "width", "height"), LOOKS)
def test_the_page_is_alive(
    scheme: str, width: int, height: int, chromium: Any, site: Site, pair: Any
) -> None:
    server, client = pair
    over = threading.Event()

    def send() -> None:
        while not over.wait(0.01):
            client.send(b"x")
            server.data_get_all()

    sender = threading.Thread(target=send)
    sender.start()
    context = chromium.new_context(color_scheme=scheme, viewport={"width": width, "height": height})
    try:
        browser = Browser(context, site.url)
        page = browser.page
        browser.until(f"{CLIENT} && {SERVER}")
        # The numbers move.
        browser.until(f"Number({SERVER}.children[5].textContent.replace('k', '000')) > 0")
        page.evaluate(f"window.before = {SERVER}.children[5].textContent")
        browser.until(f"{SERVER}.children[5].textContent !== window.before")
        browser.until("document.querySelector('#chart canvas')")
        over.set()
        sender.join()
        _cut_and_mended(browser, server)
        _details(browser)
        # It fits, in the colours of the system.
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert dark == ("rgb(11, 17, 32)" if scheme == "dark" else "rgb(248, 250, 252)")
        # It asks nobody else, and complains about nothing.
        assert {urlsplit(each).netloc for each in browser.requests} == {urlsplit(site.url).netloc}
        assert browser.complaints == []
    finally:
        over.set()
        sender.join()
        context.close()


def _cut_and_mended(browser: Browser, server: Any) -> None:
    """A client without its server turns red, and green again."""
    browser.until(f"!{CLIENT}.classList.contains('bad')")
    green = browser.page.evaluate(f"getComputedStyle({CLIENT}.querySelector('.state')).color")
    address, server_kind = server.address, type(server)
    _break(server)
    browser.until(f"{CLIENT}.classList.contains('bad')")
    red = browser.page.evaluate(f"getComputedStyle({CLIENT}.querySelector('.state')).color")
    assert red != green
    browser.until("document.querySelector('#summary').classList.contains('bad')")
    browser.until("document.querySelector('#troubles').textContent.includes('attempts in a row')")
    with server_kind(address, name="the server"):
        browser.until(f"{CLIENT} && !{CLIENT}.classList.contains('bad')")
        browser.until("document.querySelector('#summary').classList.contains('good')")
        _names_are_text(browser)


def _break(server: Any) -> None:
    """As a crash does: a graceful stop would end the conversation."""
    core = server._operations.core
    with server._threads.lock:
        core.context.is_stopping = True
        core.links.abort_all()
    server.stop(0.0)


def _names_are_text(browser: Browser) -> None:
    page = browser.page
    page.evaluate(f"{SERVER}.click()")
    browser.until("!document.querySelector('#details').hidden")
    browser.until(f"document.querySelector('#peers').textContent.includes({SCRIPT!r})")
    assert page.evaluate("document.querySelectorAll('#peers script, #details script').length") == 0


def _details(browser: Browser) -> None:
    page = browser.page
    page.fill("#filter", "nothing has this")
    browser.until("document.querySelectorAll('#rows tr').length === 0")
    page.fill("#filter", "ClientP2P")
    browser.until("document.querySelectorAll('#rows tr').length === 1")
    page.fill("#filter", "")


def test_rows_are_sorted_by_a_click(chromium: Any, site: Site, pair: Any) -> None:
    context = chromium.new_context(viewport={"width": 1280, "height": 800})
    try:
        browser = Browser(context, site.url)
        browser.until(f"{CLIENT} && {SERVER}")
        first = "document.querySelector('#rows tr').textContent.includes('{}')"
        browser.page.click("#titles button:text-is('endpoint')")
        browser.until(first.format("ClientP2P"))
        browser.page.click("#titles button:text-is('endpoint')")
        browser.until(first.format("ServerP2P"))
        assert browser.page.get_attribute("#titles th:nth-child(2)", "aria-sort") == "descending"
    finally:
        context.close()


def test_a_page_whose_command_has_ended_says_so(chromium: Any, runtime: Path, pair: Any) -> None:
    site = Site("127.0.0.1:0")
    context = chromium.new_context()
    try:
        browser = Browser(context, site.url)
        browser.until(f"{CLIENT}")
        site.close()
        browser.until("document.querySelector('#summary').textContent.includes('does not answer')")
    finally:
        site.close()
        context.close()
