"""The Chinese pages keep up with the English ones: the same code, the same outline, the same links.

The programs of a Chinese page are not run: they differ from those of the English page, which run, in comments
and in texts alone.
"""

from __future__ import annotations

import ast
import io
import os
import re
import tokenize
from pathlib import Path

import pytest

from tests.project.test_docs import CHINESE_PAGES, FENCE, LINK, ROOT, blocks, name

TEXT = re.compile(r"[\u4e00-\u9fff]")
INDEX = ROOT / "docs/zh/index.md"
TRANSLATED = [page for page in CHINESE_PAGES if page != INDEX]  # its glossary has more terms
LABEL = re.compile(r"(?<=: ).*|(?<= as ).*|(?<=\[\()[^)]*")  # in a diagram
COMMENT = re.compile(r"(?:^|\s+)#.*")

# One word for one thing: the glossary of docs/zh/index.md has the words on the right.
TERMS = {
    "服务端": "服务器",
    "客户机": "客户端",
    "对方|对等端|另一端": "对端",
    "邮箱|消息队列": "信箱",
    "应答|答复": "响应",
    "处理器函数|处理程序": "处理函数",
    "成帧|组帧|帧格式": "分帧方式",
    "收据": "回执",
    "反压|流控": "背压",
    "自动重新连接|断开重连": "断线重连",
    "期限": "截止时间",
    "套接字": "socket",
    "消息代理": "消息中间件",
}


def english_of(page: Path) -> Path:
    """README.zh-CN.md: README.md; docs/zh/x.md: docs/x.md; another file: the file itself."""
    if page.parent == INDEX.parent:
        return page.parents[1] / page.name
    return page.with_name(page.name.replace(".zh-CN", ""))


def comment_lines(code: str) -> list[int]:
    tokens = tokenize.generate_tokens(io.StringIO(code).readline)
    return [token.start[0] for token in tokens if token.type == tokenize.COMMENT]


def same_python(english: str, chinese: str) -> bool:
    """True if they differ in the words of comments and in Chinese texts alone."""
    left, right = ast.parse(english), ast.parse(chinese)
    for old, new in zip(ast.walk(left), ast.walk(right), strict=False):
        if isinstance(old, ast.Constant) and isinstance(new, ast.Constant) and TEXT.search(str(new.value)):
            new.value = old.value if isinstance(old.value, str) else new.value
    return ast.dump(left) == ast.dump(right) and comment_lines(english) == comment_lines(chinese)


def same_code(language: str, english: str, chinese: str) -> bool:
    if language == "python":
        return same_python(english, chinese)
    if language not in ("mermaid", "bash"):
        return english == chinese
    words = LABEL if language == "mermaid" else COMMENT
    pairs = zip(english.splitlines(), chinese.splitlines(), strict=False)
    return english.count("\n") == chinese.count("\n") and all(
        words.sub("", old) == words.sub("", new) and bool(words.search(old)) == bool(words.search(new))
        for old, new in pairs
    )


def different_blocks(english: str, chinese: str) -> list[str]:
    """The blocks of the Chinese page that are not those of the English page."""
    old, new = blocks(english), blocks(chinese)
    if [(each.language, each.run) for each in old] != [(each.language, each.run) for each in new]:
        return ["not the same blocks"]
    return [
        f"line {theirs.line}, English line {ours.line}"
        for ours, theirs in zip(old, new, strict=True)
        if not same_code(ours.language, ours.code, theirs.code)
    ]


def outline(text: str) -> list[str]:
    """Headings without their words, rows of tables, items of lists."""
    found = re.findall(r"^(?:#+ | *(?:-|\d+\.) |\|.*\|$)", FENCE.sub("", text), re.MULTILINE)
    return [f"{each.replace(chr(92) + '|', '').count('|')} bars" if "|" in each else each for each in found]


def inline_code(page: Path) -> set[str]:
    return set(re.findall(r"`([^`\n]+)`", FENCE.sub("", page.read_text(encoding="utf-8"))))


def targets(page: Path) -> set[str]:
    """Where the links of a page lead, in English: files from the root, without anchors, and addresses."""
    links = {"".join(groups) for groups in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8")))}
    files = {link.partition("#")[0] for link in links if ":" not in link and not link.startswith("#")}
    paths = {Path(os.path.normpath(page.parent / file)) for file in files}
    own = {page, english_of(page), ROOT / "README.zh-CN.md", INDEX.parent / page.name}  # the other language
    return {link for link in links if ":" in link} | {name(english_of(each)) for each in paths - own}


def other_words(text: str) -> list[str]:
    return [f"{word} → {term}" for words, term in TERMS.items() for word in re.findall(words, text)]


def test_there_are_chinese_pages() -> None:
    assert {page.stem for page in TRANSLATED} >= {
        "README.zh-CN", "getting-started", "patterns", "devices", "troubleshooting",
    }  # fmt: skip


@pytest.mark.parametrize("page", TRANSLATED, ids=name)
def test_the_code_is_that_of_the_english_page(page: Path) -> None:
    english = english_of(page).read_text(encoding="utf-8")
    assert different_blocks(english, page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("page", TRANSLATED, ids=name)
def test_the_outline_is_that_of_the_english_page(page: Path) -> None:
    assert outline(page.read_text(encoding="utf-8")) == outline(english_of(page).read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", CHINESE_PAGES, ids=name)
def test_the_links_are_those_of_the_english_page(page: Path) -> None:
    """A Chinese page may also lead to other Chinese pages."""
    english, chinese = targets(english_of(page)), targets(page)
    assert english - chinese == set()
    assert chinese - english - {name(english_of(each)) for each in CHINESE_PAGES} == set()


@pytest.mark.parametrize("page", TRANSLATED, ids=name)
def test_the_names_are_those_of_the_english_page(page: Path) -> None:
    """Parameters, values and texts of errors in backticks."""
    english, chinese = inline_code(english_of(page)), inline_code(page)
    assert (english - chinese, chinese - english) == (set(), set())


@pytest.mark.parametrize("page", CHINESE_PAGES, ids=name)
def test_the_languages_link_to_each_other(page: Path) -> None:
    english = english_of(page)
    here, there = (os.path.relpath(b, a.parent) for a, b in ((page, english), (english, page)))
    assert f"[English]({here}) | 中文" in page.read_text(encoding="utf-8")
    assert f"English | [中文]({there})" in english.read_text(encoding="utf-8")


@pytest.mark.parametrize("page", CHINESE_PAGES, ids=name)
def test_one_word_for_one_thing(page: Path) -> None:
    assert other_words(page.read_text(encoding="utf-8")) == []


def test_the_glossary_has_each_term_once() -> None:
    words = re.findall(r"^\| ([^|]+) \| [a-z]", INDEX.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(words) > 20
    assert sorted(set(words)) == sorted(words)


@pytest.mark.parametrize(
    ("language", "english", "chinese"),
    [
        ("python", "send(b'one')  # now\n", "send(b'one')  # 现在\n"),
        ("python", "print('got', data)\n", "print('收到', data)\n"),
        ("python", "print(f'got {data}')\n", "print(f'收到{data}')\n"),
        ("bash", "linkbox demo  # all patterns\n", "linkbox demo    # 全部模式\n"),
        ("mermaid", "C->>S: message\n", "C->>S: 消息\n"),
        ("mermaid", "A --> L[(mailbox)]\n", "A --> L[(信箱)]\n"),
    ],
)
def test_words_may_be_chinese(language: str, english: str, chinese: str) -> None:
    assert same_code(language, english, chinese)


@pytest.mark.parametrize(
    ("language", "english", "chinese"),
    [
        ("python", "send(b'one')\n", "send(b'two')\n"),
        ("python", "send('one')\n", "send('two')\n"),
        ("python", "send(1)\n", "send('二')\n"),
        ("python", "send(1)  # now\n", "send(1)\n"),
        ("python", "print(f'got {data}')\n", "print(f'收到{date}')\n"),
        ("python", "send(1)\n", "send(1)\nsend(2)\n"),
        ("bash", "linkbox demo  # all patterns\n", "linkbox ask  # 全部模式\n"),
        ("bash", "linkbox demo  # all patterns\n", "linkbox demo\n"),
        ("mermaid", "C->>S: message\n", "S->>C: 消息\n"),
        ("mermaid", "A --> L[(mailbox)]\n", "B --> L[(信箱)]\n"),
        ("text", "refused # 1\n", "refused # 2\n"),
    ],
)
def test_other_code_is_seen(language: str, english: str, chinese: str) -> None:
    assert not same_code(language, english, chinese)


def test_a_missing_part_is_seen() -> None:
    english = "# A\n\n| a | b |\n|---|---|\n\n- one\n- two\n\n```python\nx = 1\n```\n"
    assert outline(english) == outline(english.replace("# A", "# 甲").replace("one", "一"))
    assert outline(english) != outline(english.replace("- two\n", ""))
    assert outline(english) != outline(english.replace("| b |", "|"))
    assert outline(english) != outline(english.replace("# A", "## A"))
    assert different_blocks(english, english.replace("```python", "```bash"))
    assert different_blocks(english, english.replace("x = 1", "x = 2")) == ["line 10, English line 10"]
    assert other_words("服务端收到") == ["服务端 → 服务器"]
