"""One word for one thing: comments, docstrings, messages and documentation use the terms of the field.

Synonyms confuse readers: "stranger", "newcomer" and "applicant" all meant a peer whose handshake is not
finished. Each row of `TERMS` forbids such words and says what to write. Code is not checked: inline code in
backticks, identifiers, and string constants without a space.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

# Files with forbidden words, as paths from the root. A row whose file is clean fails.
EXCEPTIONS: set[str] = set()

TERMS = {
    r"strangers?|applicants?|newcomers?": "an unauthenticated peer, a new client, a pending handshake",
    r"whoever|who comes? in|lets? in|let \w+ in|comes? in again": "a peer that …; connect, admit",
    r"turn(?:s|ed)? (?:\w+ ){0,3}away|says? no": "reject",
    r"knock(?:s|ed|ing)?": "connect",
    r"talk(?:s|ed|ing|er)?|hang(?:s|ing)? up": "send, exchange messages, communicate; close",
    r"told|tells?": "report, notify, send; a text says",
    r"hears?|heard": "receive, be notified",
    r"bells?|(?<!doorbell )rings?|rung|rang": "event; emit (the doorbell may introduce the idea once)",
    r"askers?": "the client, the caller",
    r"(?:an|each|every|one|this|that|its|half) ask|asks of|asks (?:a second|at a time)": "request",
    r"so (?:many|long)(?! as)": "that many; give the number its name",
    r"stands? (?:in|for|on|there|between|beside|behind)|stood": "is, means",
    r"(?:is|are|was|were) to (?:be|do|go|have)": "must, will",
    r"nobody is there|nobody is at|somebody is there|is there again": "no peer is connected",
    r"goes out|went out|going out": "is sent",
    r"gets? there|got there": "arrive",
    r"breath|farewell|last words": "close notification, last bytes",
    r"of (?:somebody|nobody|whom)": "name the owner",
    r"said|says it(?:self)? is": "send, report, state",
    r"all is well|is well": "works, is unharmed",
    r"gives? up (?:the|its|their) place|no place|places? (?:are|is) taken": "slot",
}
FORBIDDEN = re.compile(
    "|".join(rf"(?P<t{n}>\b(?:{words})\b)" for n, words in enumerate(TERMS)), re.IGNORECASE
)
ADVICE = dict(zip((f"t{n}" for n in range(len(TERMS))), TERMS.values(), strict=True))
CODE = re.compile(r"``[^`]*``|`[^`\n]*`")


def prose_of_python(source: str) -> Iterator[tuple[int, str]]:
    """Comments, and string constants with a space: docstrings, messages, help."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value.strip():
            for offset, line in enumerate(CODE.sub("`", node.value).splitlines()):
                yield node.lineno + offset, line


def prose_of_markdown(text: str) -> Iterator[tuple[int, str]]:
    """All lines without inline code; in fenced blocks only comments."""
    fence = ""
    for number, line in enumerate(text.splitlines(), 1):
        mark = re.match(r" *(`{3,})", line)
        if mark and (not fence or line.strip() == fence):
            fence = "" if fence else mark[1]
        elif not fence:
            yield number, CODE.sub("`", line)
        elif " # " in line or line.lstrip().startswith("# "):
            yield number, line.partition("# ")[2]


def findings(file: Path) -> list[str]:
    text = file.read_text(encoding="utf-8")
    lines = prose_of_python(text) if file.suffix == ".py" else prose_of_markdown(text)
    return [
        f"{file}:{number}: {match.group()!r} → {ADVICE[match.lastgroup or '']}"
        for number, line in lines
        for match in FORBIDDEN.finditer(line)
    ]


def checked(root: Path) -> list[Path]:
    found = [*(root / "src").rglob("*.py"), *(root / "docs").rglob("*.md"), *(root / "examples").rglob("*.*")]
    pages = [root / "README.md", root / "SECURITY.md"]
    return [*pages, *sorted(each for each in found if each.suffix in (".py", ".md"))]


def test_texts_use_the_terms_of_the_field(root: Path) -> None:
    files = [file for file in checked(root) if file.relative_to(root).as_posix() not in EXCEPTIONS]
    assert [each for file in files for each in findings(file)] == []


def test_no_exception_is_stale(root: Path) -> None:
    """A file that was rewritten or removed needs no exception."""
    clean = [name for name in EXCEPTIONS if not (root / name).exists() or not findings(root / name)]
    assert sorted(clean) == [], "delete these rows of EXCEPTIONS"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x.py", "# the stranger waits"),
        ("x.py", 'def f():\n    """Turn a peer away."""'),
        ("x.py", 'raise ValueError(f"{1} was told")'),
        ("x.md", "then the bell rings"),
        ("x.md", "```python\nx = 1  # nobody is there\n```"),
    ],
)
def test_a_forbidden_word_is_found(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert findings(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x.py", "told = stranger('knock')"),
        ("x.py", '"""`tell` and ``stranger`` are names, strings are not."""'),
        ("x.md", "a mailbox; a string; the `bell`"),
        ("x.md", "```bash\nlinkbox talk stranger\n```"),
    ],
)
def test_other_text_passes(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert not findings(tmp_path / name)
