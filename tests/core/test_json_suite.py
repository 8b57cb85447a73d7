"""What a parser of JSON must take, must refuse, and may do as it likes with: a table of each (RFC 8259).

The kinds of cases are those of the well-known parsing suites; the inputs are written anew. Where the RFC
leaves a choice, docs/formats.md makes it, and the third table holds linkbox to it. Nothing but
`DecodeError` ever comes out.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from linkbox.errors import DecodeError
from linkbox.format_checks import MAX_DEPTH
from linkbox.formats import Format, Json, Typed

FORMATS: list[Format[Any, Any]] = [Json(), Typed(Any), Typed(dict | list | str | int | float | bool | None)]

ACCEPTED = r"""
null | true | false | 0 | -0 | 1 | -1 | 10 | 123456789 | -123456789012345678901234567890
0.0 | -0.0 | 0.5 | 1.25 | -1.5 | 123.456 | 0.1e1 | 1e0 | 1E0 | 1e2 | 1E2 | 1e+2 | 1E+2 | 1e-2 | 1E-2
0e1 | 0e+1 | 0E0 | -1e-5 | 1.5E+10 | 20e1 | 1e300 | 1e-300 | 123e65 | 1.7976931348623157e308 | 5e-324
-0.000000000000000000000000000000000000000000000000000000000000000000000000001 | 9007199254740993
9223372036854775807 | 9223372036854775808 | 18446744073709551615 | 18446744073709551616
3.141592653589793238462643383279502884197 | 0.3e-10 | 100000000000000000000000000000.0
"" | " " | "a" | "asd" | "\"" | "\\" | "\/" | "/" | "\b\f\n\r\t" | "\u0000" | "\u0001" | "\u001f" | "\u0022"
"\u005c" | "\u0041" | "\u00e9" | "\u00E9" | "\u20ac" | "\u20AC" | "\uD7FF" | "\ud800\udc00" | "\uDBFF\uDFFF"
"\ud83d\ude00" | "\uD834\uDD1E and more" | "\uFFFF" | "\uFFFE" | "\uFDD0" | "\u2028" | "\u2029" | "\u200B"
"\\u0000" | "\\n" | "\\\"" | "\\\\" | "a/*b*/c" | "# no comment" | "[{" | "]}" | "\u0012"
"\u0060\u012a\u12AB"
"é" | "€" | "😀" | "ü in the middle" | "\\a" | "new\u000Aline" | "\u007F" | "'" | "\u0821" | "\u0123"
[] | [ ] | [1] | [1,2] | [1, 2 , 3] | [[]] | [[],[[]]] | [null] | [null, 1, "1", {}] | [true,false]
[1,null,null,null,2] | ["a"] | [""] | ["\u0061","b"] | [0.5e0,-1E1] | [{}] | [{"a":[]}] | [ 1 ]
[[[[[[[[]]]]]]]]
{} | { } | {"":0} | {"a":1} | {"a":1,"b":2} | {"a":{"b":{"c":{}}}} | {"a":[]} | {"a":[1,{"b":2}]}
{ "a" : 1 }
{"a":"b","c":null} | {"\u0061":1} | {"a b":1} | {"\u0000":0} | {"min":-1.0e+28,"max":1.0e+28} | {"é":"é"}
{"a":1,"A":2} | {"a":true,"b":false,"c":[{"d":null}]}
{"long":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"}
"""

REFUSED = r"""
nul | nulll | Null | NULL | tru | truee | True | TRUE | fals | False | n | t | f | none | None
undefined | nil
NaN | nan | -NaN | Infinity | -Infinity | +Infinity | inf | Inf | -inf | [NaN] | [Infinity] | {"a":NaN}
1.#INF
+1 | ++1 | --1 | - | + | -- | 01 | 00 | -01 | -00 | 012 | 0x1 | 0X1 | 0x | 0b1 | 0o7 | 1. | -1. | .1
-.1 | . | -.
1.e1 | .5e1 | 1e | 1E | 1e+ | 1e- | 1E+ | 1.5e | 1.5e+ | 0e | 0e+ | 1e1.5 | 1e1e1 | 1.2.3 | 1..2 | 1ee2
1 000
1_000 | 1,5 | 1a | 1.0e+a | e1 | 2.e3 | 2.e+3 | -foo | -1x | 1/2 | (1) | $1 | 1f | 1L | 0.3e | 0E+ | 9.e+
1eE2
[-] | [+1] | [01] | [1.] | [.5] | [1e] | [0x1] | [- 1] | [-2.] | [1 2] | [1+2] | [0.e1] | [--2] | [2.e-3]
[-a]
' | 'a' | " | "a | a" | "a"b | "\ | "\" | "\x" | "\x00" | "\a" | "\v" | "\0" | "\e" | "\'" | "\U0041" | "\u"
"\u1" | "\u12" | "\u123" | "\u123g" | "\uD8" | "\u 123" | "\u-123" | "\u+123" | "\uqqqq" | "\🌀" | "\é"
"\ "
"a" "b" | "a","b" | `a` | “a” | "\\\" | "\u00A" | "\\\ | "\uD834\u" | "\uD834\uD | "\uD834\ | "\1" | "\N"
[ | ] | [[ | ]] | [] ] | [][] | [1 | [1, | [1,] | [,1] | [,] | [1,,2] | [1,,] | [,,] | [1;2] | [1:2]
["a":1] | [1}
["a | ["a" | ["a", | ["", ] | [[1] | [1]] | [ , ] | [3[4]] | ["a" "b"] | [1 true] | [tru] | [nul, 1]
[\n] | [*]
["x", truth] | [1]x | [1],2 | [1] 2 | [1]# | [1]// | [ | (] | <null> | <.> | [<null>] | [1]  ] | [a]
[\u000A""]
{ | } | {} } | {}} | {{}} | {{ | {"a" | {"a": | {"a":1 | {"a":1, | {"a":1,} | {,} | {,"a":1}
{"a":1,,"b":2} | {"a"}
{a:1} | {'a':1} | {1:1} | {null:1} | {true:1} | {[]:1} | {"a" 1} | {"a"=1} | {"a"::1} | {"a":1:2}
{"a":"b" "c":1}
{"a":1 "b":2} | {"a",1} | {"a":} | {:1} | {"a":1;"b":2} | {"a":1]} | {"a":[1} | {"a":/*c*/1}
{"a":1}/*c*/ | {"a":'b'}
{"a":1}# | {"a":1}// | /**/{} | //c | #c | {"a":1}{"b":2} | {} [] | {"a":"b"}x | {"a" b} | {9:1}
{"id":0,,,,} | {x
1 2 | 1,2 | true false | null,null | "a" 1 | [] {} | ; | : | , | \ | @ | * | & | é | ü | 😀 | a | abc | =1
!1 | ~
--- | <a/> | key: 1 | "a"; | [1]; | true; | _ | [_] | undefined; | function(){} | new Date()
[1,2,3].length
"""
# What cannot stand in a line of text.
REFUSED_BYTES: list[bytes] = [
    *(b"", b" ", b"\n\t\r ", b"\0", b"1\0", b"\0001", b"[1]\0", b'"a\0b"', b"[\0]", b"null\0"),
    *(b'"' + bytes((code,)) + b'"' for code in range(0x20)),  # control characters must be escaped
    *(b"[" + bytes((code,)) + b"1]" for code in (0x0B, 0x0C, 0x1C, 0x7F, 0x85, 0xA0)),  # no white space
    *(b"\xef\xbb\xbf{}", b"\xef\xbb\xbf", b"\xef\xbb{}", b"\xc2\xa0[]", b"\xe2\x81\xa0[]", b"[\xe3\x80\x80]"),
    *(
        "[1]".encode(name)
        for name in ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-7")[:5]
    ),
    *('"é"'.encode(name) for name in ("latin-1", "utf-16-le", "utf-16-be", "utf-32-be")),
    *(
        b'"\xff"',
        b'"\x80"',
        b'"\xc3"',
        b'"\xc3("',
        b'"\xe2\x82"',
        b'"\xe2(\xa1"',
        b'"\xf0\x9f\x98"',
    ),  # not UTF-8
    *(
        b'"\xc0\xaf"',
        b'"\xc0\x80"',
        b'"\xe0\x80\xaf"',
        b'"\xf0\x80\x80\xaf"',
        b'"\xfc\x80\x80\x80\x80\x80"',
    ),  # overlong
    *(b'"\xed\xa0\x80"', b'"\xed\xbf\xbf"', b'"\xed\xa0\x80\xed\xb0\x80"'),  # surrogates
    *(
        b'"\xf4\x90\x80\x80"',
        b'"\xf7\xbf\xbf\xbf"',
        b'"\xf8\x88\x80\x80\x80"',
        b'"\xfe\xff"',
    ),  # beyond Unicode
    *(
        b'["a\xff"]',
        b'{"\xff":1}',
        b'{"a":"\xff"}',
        b"[\xff]",
        b"\xff",
        b"\xe9",
        b"1\xe5",
        b"[1\xe5]",
        b"[1e1\xe5]",
    ),
    *(
        b'"\\u\xc3\xa9"',
        b'"\\\xe5"',
        b'"\\u\xe5"',
        b'["\\u123\xe5"]',
        b"-\xe5",
        b'{"\xb9":"0",}',
        b"\xe2\x81",
    ),
    *(b'"a\nb"', b'"a\tb"', b'"a\rb"', b'["new\nline"]', b"[\n1\n", b"[1,\n1\n,1", b"{\n", b'{"a\nb":1}'),
    *(b"[" * 100_000, b'{"a":' * 100_000, b'[{"":' * 50_000, b"]" * 100_000, b"[" * 101, b"[[" * 50 + b"1"),
    *(b'"\\' * 999, b'"' * 999, b"-" * 999, b"1." * 999, b"[1," * 99, b"{" * 999, b"," * 999, b"e" * 999),
]
ACCEPTED_BYTES: list[bytes] = [
    *(
        b" 1",
        b"1 ",
        b"\n1\n",
        b"\r\n[\r\n]\r\n",
        b"\t{\t}\t",
        b" \n\r\t null \n\r\t ",
        b'{"a":\n1\n}',
        b'"\x7f"',
    ),
    *(
        f'"{chr(code)}"'.encode()
        for code in (0x80, 0x7FF, 0x800, 0xD7FF, 0xE000, 0xFFFD, 0xFFFF, 0x10000, 0x10FFFF)
    ),
    *(
        '"\u2028"'.encode(),
        '"\u2029"'.encode(),
        '"\ufeff"'.encode(),
        '"\u00a0"'.encode(),
        '{"\u0434":"\u6f22"}'.encode(),
    ),
    *(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH, b'{"a":' * MAX_DEPTH + b"1" + b"}" * MAX_DEPTH),
    *(
        b'["' + b"[" * 999 + b'"]',
        b'"' + b"{" * 999 + b'"',
        b'"' + b"\\\\" * 999 + b'"',
        b"[" + b"[]," * 999 + b"[]]",
    ),
    *(b"1" * 4300, b"-" + b"9" * 4299, b"0." + b"1" * 5000, b"[" + b"1," * 5000 + b"1]", b" " * 9999 + b"1"),
    *(
        b'"' + b"a" * 100_000 + b'"',
        b'{"' + b"k" * 9999 + b'":1}',
        b"0e" + b"0" * 50 + b"1",
        b"1e-0000000000001",
    ),
]
TOO_LARGE: list[bytes] = [
    *(b"1e999", b"-1e999", b"1e309", b"2e308", b"[1e400]", b'{"a":-1e400}', b"1" + b"0" * 400 + b".0"),
    *(b"1e99999999999999999999", b"0.4e00669999999999999999999999999999999999999999999999"),
]
LONE_SURROGATES: list[bytes] = [
    *(rb'"\ud800"', rb'"\udc00"', rb'"\uDFFF"', rb'"\ud800a"', rb'"\ud800\n"', rb'"\ud800\ud800"'),
    *(rb'"\udc00\ud800"', rb'["\uD834"]', rb'{"\uDADA":1}', rb'"\ud800\u0041"', rb'"\uDd1e\uD834"'),
    *(rb'"\uD888\u1234"', rb'"\ud800\ud800\udc00"', rb'"a\uDC00b"'),
]
# The RFC leaves these to the parser. True, False: what docs/formats.md says. None: it says nothing.
UNDEFINED: dict[bytes, bool | None] = {
    b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1): False,
    b'{"a":' * (MAX_DEPTH + 1) + b"1" + b"}" * (MAX_DEPTH + 1): False,
    b"[" * 5000 + b"]" * 5000: False,
    b"[" * 100_000 + b"]" * 100_000: False,
    b'[{"":' * 3000 + b"1" + b"}]" * 3000: False,
    b"1" * 4301: False,
    b"1" * 5000: False,
    b"-" + b"1" * 4300: None,
    b"-" + b"1" * 5000: False,
    b"[" + b"1" * 100_000 + b"]": False,
    **dict.fromkeys(TOO_LARGE, False),
    **dict.fromkeys(LONE_SURROGATES, False),
    b'{"a":1,"a":2}': True,
    b'{"a":1,"a":1}': True,
    b'{"a":{"b":1},"a":[]}': True,
    b'{"a":1,"\\u0061":2}': True,
    b"1e-999": None,
    b"-1e-999": None,
    b"123.456e-789": None,
    b"0e999": None,
    b"1e-99999999999999999999": None,
    b"0." + b"0" * 5000 + b"1": None,
    b"0.1" + b"0" * 400 + b"1e1": None,
    b"1" * 400 + b"e-390": None,
    b"2.2250738585072011e-308": None,
}


def cases(table: str) -> list[bytes]:
    """The inputs in the lines of a table."""
    return [text.strip().encode() for line in table.strip().splitlines() for text in line.split(" | ")]


def result(format: Format[Any, Any], data: bytes) -> tuple[bool, Any]:
    """Accepted? And the value. Any other error fails the test."""
    try:
        return True, format.decode(data)
    except DecodeError as error:
        text = str(error)
    assert 0 < len(text) < 1000
    return False, None


def shown(data: bytes) -> str:
    return ascii(data[:30])


def reference(data: bytes) -> Any:
    return json.loads(data, parse_constant=pytest.fail)


GOOD = cases(ACCEPTED) + ACCEPTED_BYTES
BAD = cases(REFUSED) + REFUSED_BYTES


@pytest.mark.parametrize("data", GOOD, ids=shown)
def test_accepted(data: bytes) -> None:
    expected = reference(data)
    for format in FORMATS:
        is_accepted, value = result(format, data)
        assert is_accepted
        assert value == expected
        assert type(value) is type(expected)
        assert result(format, format.encode(value)) == (True, value)


@pytest.mark.parametrize("data", BAD, ids=shown)
def test_refused(data: bytes) -> None:
    for format in FORMATS:
        assert result(format, data) == (False, None)
        assert result(format, b"[" + data + b"]")[0] in (True, False)


@pytest.mark.parametrize(("data", "expected"), UNDEFINED.items(), ids=map(shown, UNDEFINED))
def test_left_open(data: bytes, expected: bool | None) -> None:
    for format in FORMATS:
        is_accepted, value = result(format, data)
        assert expected is None or is_accepted is expected
        if is_accepted:
            assert value == reference(data)  # of equal keys the last one wins, here as there


def test_every_cut_of_a_good_text_is_refused_or_good() -> None:
    text = rb'{"key": [1.5e+3, -0, "\u00e9\ud83d\ude00\n", true, false, null, {"a": {}}, []]}'
    for stop in range(len(text)):
        assert not result(Json(), text[:stop])[0]
    for start in range(1, len(text)):
        assert result(Json(), text[start:])[0] in (True, False)


def test_the_tables_are_large_enough() -> None:
    assert len(set(GOOD)) >= 150
    assert len(set(BAD)) >= 250
    assert len(UNDEFINED) >= 30
