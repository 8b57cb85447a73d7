"""Makes screenshots of ``linkbox top`` in build/screenshots, or in the folder that is its argument.

Five programs run, of which three are in trouble: a callback that blocks, a client without a server, and a
mailbox from which nothing is taken. Needs the extras ``cli`` and ``top``, playwright and Chromium.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

SIZES = ((80, 24), (140, 50))
LOOKS = (("light", 1280, 900), ("dark", 1280, 900), ("dark", 390, 844))
START = """
import sys, time
from linkbox import *
ports = [f"tcp://127.0.0.1:{port}" for port in sys.argv[1:]]
"""
PROGRAMS = {
    "camera": """
server = ServerP2P(ports[0])
@server.on(EventKind.DATA)
def load_image(event):
    time.sleep(3600)
server.start()
""",
    "sensor": """
client = ClientP2P(ports[0], name="<script>alert(1)</script>").start()
server = ServerAR(ports[1], handler=lambda request: request.data, name="echo").start()
while True:
    client.send(bytes(50))
    time.sleep(0.01)
""",
    "asker": """
client = ClientAR(ports[1], keep_alive=True)
while True:
    client.ask(b"hello")
    time.sleep(0.005)
""",
    "display": """
client = ClientP2P(ports[2], connect_timeout=3600).start(wait=False)
""",
    "logger": """
server = ServerP2M(ports[3], limits=Limits(mailbox_messages=200)).start()
client = ClientP2M(ports[3], blocking=False).start()
while True:
    client.send(bytes(1000))
""",
}


def free_ports(count: int) -> list[str]:
    """Ports that no program uses."""
    socks = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [str(sock.getsockname()[1]) for sock in socks]
    for sock in socks:
        sock.close()
    return ports


def start(folder: Path, name: str, code: str, ports: list[str]) -> subprocess.Popen[bytes]:
    """Start one of the programs."""
    path = folder / f"{name}.py"
    path.write_text(f"{START}{code}time.sleep(3600)\n")
    return subprocess.Popen([sys.executable, path, *ports], env=os.environ | {"LINKBOX_MONITOR": "1"})


def terminal(folder: Path) -> None:
    """The terminal, as SVG."""
    from linkbox.cli.top.screen import Top
    from linkbox.monitor import Reader

    async def main(size: tuple[int, int]) -> None:
        reader = Reader()
        app = Top(reader.rows, 0.5)
        async with app.run_test(size=size) as pilot:
            await pilot.pause(2.0)  # Rates need two readings.
            (folder / f"terminal-{size[0]}.svg").write_text(app.export_screenshot(), encoding="utf-8")
        reader.close()

    for size in SIZES:
        asyncio.run(main(size))


def page(folder: Path) -> None:
    """The page, and the terminal, as PNG."""
    port = free_ports(1)[0]
    site = subprocess.Popen([sys.executable, "-m", "linkbox.cli", "top", "--web", f"127.0.0.1:{port}"])
    try:
        with sync_playwright() as playwright:
            path = shutil.which("chromium") or shutil.which("google-chrome")
            browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
            time.sleep(2.0)  # The command has no signal for a parent that does not read its stderr.
            for scheme, width, height in LOOKS:
                size = {"width": width, "height": height}
                tab = browser.new_page(viewport=size, color_scheme=scheme)
                tab.goto(f"http://127.0.0.1:{port}/")
                tab.wait_for_selector("#rows tr")
                tab.wait_for_timeout(8000)  # until the chart has some points
                tab.screenshot(path=folder / f"page-{scheme}-{width}.png", full_page=True)
            for columns, _ in SIZES:
                tab = browser.new_page(viewport={"width": 1300, "height": 800})
                tab.goto((folder / f"terminal-{columns}.svg").absolute().as_uri())
                tab.screenshot(path=folder / f"terminal-{columns}.png")
    finally:
        site.terminate()
        site.wait()


def main() -> None:
    """Start the programs, take the screenshots, end the programs."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "build/screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="lkb") as runtime:
        os.environ["XDG_RUNTIME_DIR"] = runtime
        ports = free_ports(4)
        programs = []
        try:
            for name, code in PROGRAMS.items():
                programs.append(start(Path(runtime), name, code, ports))
                time.sleep(1.0)  # The next one connects to it.
            time.sleep(5.0)  # until the troubles are old enough to be some
            terminal(folder)
            page(folder)
        finally:
            for program in programs:
                program.kill()
                program.wait()
    print(*sorted(map(str, folder.iterdir())), sep="\n")


if __name__ == "__main__":
    main()
