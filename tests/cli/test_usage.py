"""Wrong use, links that fail, and what can be read before anything is sent."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import linkbox

LOCAL = "tcp://127.0.0.1:0"


def test_version(run) -> None:
    build = "compiled" if linkbox.compiled else "pure Python"
    assert run("--version") == (0, f"linkbox {linkbox.__version__} ({build})\n".encode(), "")


@pytest.mark.parametrize(
    "command", ["", "demo", "listen", "send", "ask", "chat", "spool", "cert", "record", "replay"]
)
def test_help(run, command: str) -> None:
    done = run(*([command] if command else []), "--help")
    assert done.status == 0
    assert b"Usage: linkbox" in done.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("send nonsense", "did you mean"),
        ("send tcp://127.0.0.1:99999", "65535"),
        ("send tcp://127.0.0.1:1 no-such-file", "no-such-file: No such file"),
        ("send tcp://127.0.0.1:1 --chunks 2 --whole", "cannot be combined"),
        ("send tcp://127.0.0.1:1 --chunks 2 -f json", "lines"),
        ("send tcp://127.0.0.1:1 --framing raw -f json", "no message boundaries"),
        ("send tcp://127.0.0.1:1 --tls-ca ca.pem", "are for tls://"),
        ("send tls://127.0.0.1:1 --tls-ca no-such-file", "no-such-file: No such file"),
        ("send tls://127.0.0.1:1 --tls-cert a.pem", "must be given together"),
        ("listen p2m tls://127.0.0.1:0", "needs --tls-cert and --tls-key"),
        ("chat --listen tls://127.0.0.1:0", "needs --tls-cert and --tls-key"),
        ("cert issue pump", "linkbox cert init"),
        ("cert issue ../pump", "letters"),
        ("cert init --name ''", "letters"),
        ("send tcp://127.0.0.1:1 --format xml", "xml"),
        ("send tcp://127.0.0.1:1 --timeout soon", "--timeout"),
        ("send", "Missing argument"),
        ("ask tcp://127.0.0.1:1 nonsense -f json", "is not JSON"),
        (f"listen p2x {LOCAL}", "p2x"),
        (f"listen p2m {LOCAL} --framing foo", "unknown framing 'foo'"),
        (f"listen p2m {LOCAL} --framing raw:x", "takes no argument"),
        (f"listen p2m {LOCAL} --framing delimited:", "delimiter is missing"),
        (f"listen p2m {LOCAL} --framing fixed-size:x", "number of bytes"),
        (f"listen p2m {LOCAL} --framing fixed-size:0", "at least 1"),
        (f"listen p2m {LOCAL} --framing length-prefixed:9", "1 to 8"),
        (f"listen p2m {LOCAL} --framing length-prefixed:4:middle", "middle"),
        (f"listen p2m {LOCAL} --echo", "have no responses"),
        (f"listen p2m {LOCAL} --count 0", "--count"),
        (f"listen ar {LOCAL} --once", "--count 1"),
        (f"listen ar {LOCAL} --exec no-such-command", "command not found"),
        (f"listen ar {LOCAL} --exec 'no", "quotation"),
        (f"listen ar {LOCAL} --echo --exec true", "cannot be combined"),
        ("listen p2m tcp://0.0.0.0:0", "--insecure"),
        ("chat --listen tcp://0.0.0.0:0", "--insecure"),
        ("demo --seconds 0", "seconds"),
        ("dance", "dance"),
    ],
)
def test_wrong_use_has_status_2_and_is_explained(run, arguments: str, words: str) -> None:
    done = run(*arguments.split(" "))
    assert done.status == 2, done.err
    assert words in done.err
    assert done.out == b""
    assert "Traceback" not in done.err


def test_insecure_is_for_who_wants_it(start) -> None:
    listener = start("listen", "p2m", "tcp://0.0.0.0:0", "--insecure", "--timeout", "0.1")
    assert listener.address.startswith("tcp://0.0.0.0:")
    assert listener.done().status == 1


@pytest.mark.parametrize("command", ["send", "ask", "chat"])
def test_nobody_listens(run, tmp_path: Path, nobody: str, command: str) -> None:
    done = run(command, nobody, "--timeout", "0.3", stdin=b"hello\n")
    assert done.status == 1
    assert "nobody listens there" in done.err
    assert nobody in done.err


def test_a_file_for_nobody(run, tmp_path: Path, nobody: str) -> None:
    (tmp_path / "file").write_text("hello\n")
    assert run("send", nobody, "file", "--timeout", "0.3").status == 1


def test_an_address_in_use(start, run) -> None:
    listener = start("listen", "p2m", LOCAL)
    done = run("listen", "p2m", listener.address)
    assert done.status == 1
    assert "in use" in done.err


def test_a_unix_socket(start, run, tmp_path: Path) -> None:
    address = f"unix://{tmp_path}/x.sock"
    listener = start("listen", "p2m", address, "--once")
    assert listener.address == address
    assert run("send", address, stdin=b"hello\n").status == 0
    assert listener.done().out == b"hello\n"


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False
    )


@pytest.mark.parametrize("missing", ["typer", "rich", "psutil"])
def test_without_the_extra_it_says_what_to_install(missing: str) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None; from linkbox.cli import main; main()"
    done = python(code)
    assert done.returncode == 2
    assert done.stderr.strip() == (
        f"linkbox: the command line needs {missing}: in a checkout of linkbox, pip install '.[cli]'"
    )


def test_other_missing_modules_are_not_hidden() -> None:
    code = "import sys; sys.modules['linkbox.cli.ask'] = None; from linkbox.cli import main; main()"
    done = python(code)
    assert done.returncode == 1
    assert "ModuleNotFoundError" in done.stderr
