"""Writes docs/vectors.json, and the end of docs/protocol.md that shows it: ``python docs/make_vectors.py``.

Run it only when the wire itself changes, and read the difference: the vectors are what other
implementations are built on. tests/project/test_protocol_vectors.py checks the code against them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from linkbox.core.wire import authentication as auth
from linkbox.core.wire import frames
from linkbox.core.wire import handshake_messages as handshake
from linkbox.core.wire.decoder import Decoder
from linkbox.core.wire.frames import encode_ack, encode_number

HERE = Path(__file__).parent
MARK = "<!-- From here on: made by docs/make_vectors.py from docs/vectors.json -->\n"
WIDTH = 96

SESSION, INCARNATION = "11" * 16, "22" * 16
BYTES, UNITS, MESSAGE = 16 * 1024 * 1024, 100_000, 16 * 1024 * 1024
UNLIMITED = 1 << 62
PREFACE = frames.preface()


def hello(pattern: str = "p2p", **others: Any) -> handshake.Hello:
    usual: dict[str, Any] = {"epoch": 1, "credit": (BYTES, UNITS), "message": MESSAGE}
    return handshake.Hello(pattern, "bytes", "client", SESSION, **usual | others)


def welcome(**others: Any) -> handshake.Welcome:
    return handshake.Welcome("server", INCARNATION, (BYTES, UNITS), MESSAGE, **others)


def encode(message: handshake.Hello | handshake.Welcome | handshake.Refuse) -> bytes:
    """The frame of a handshake message."""
    if isinstance(message, handshake.Hello):
        return handshake.encode_hello(message)
    if isinstance(message, handshake.Welcome):
        return handshake.encode_welcome(message)
    return handshake.refuse(message.code, message.reason)


def greeting(message: handshake.Hello | handshake.Welcome) -> bytes:
    return PREFACE + encode(message)


def vector(name: str, type: str, encoded: bytes, /, **fields: Any) -> dict[str, Any]:
    return {"name": name, "type": type, "fields": fields, "hex": encoded.hex()}


def of_handshake(name: str, message: Any) -> dict[str, Any]:
    fields = json.loads(msgspec.json.encode(message))
    return {"name": name, "type": name.upper(), "fields": fields, "hex": encode(message).hex()}


def body(text: str) -> str:
    return text.encode().hex()


def asks() -> list[dict[str, Any]]:
    def ask(name: str, id: int, flags: int, left: int | None, text: str) -> dict[str, Any]:
        encoded = frames.encode_ask(id, flags, left, text.encode())
        shown = flags if left is None else flags | frames.HAS_DEADLINE
        return vector(name, "ASK", encoded, id=id, flags=shown, deadline_ms=left, body=body(text))

    return [
        ask("ask", 1, 0, None, "time?"),
        ask("ask-deadline", 2, 0, 30_000, "time?"),
        ask("ask-first-message", 3, frames.MORE_OF_ASK, None, "a"),
        ask("ask-whole", 3, frames.NO_MESSAGE, None, ""),
        ask("ask-piece", 4, frames.MORE_OF_MESSAGE, None, "first half, "),
        vector("answer", "ANSWER", frames.encode_answer(1, 0, b"noon"), id=1, flags=0, body=body("noon")),
        vector(
            "fail",
            "FAIL",
            frames.encode_fail(1, "ValueError", "no such city"),
            id=1,
            type="ValueError",
            message="no such city",
        ),
        vector("cancel", "CANCEL", frames.encode_cancel(2, "given up"), id=2, reason="given up"),
    ]


def messages() -> list[dict[str, Any]]:
    three = [b"one", b"", b"three"]
    marks = {"received": 3, "taken": 2, "byte_limit": BYTES + 10, "message_limit": UNITS + 2}
    rejection = {"seq": 7, "code": "decode", "reason": "not JSON: é"}
    return [
        vector("data", "DATA", frames.frame(frames.DATA, b"hello"), body=body("hello")),
        vector("data-empty", "DATA", frames.frame(frames.DATA), body=""),
        vector("batch", "BATCH", frames.encode_batch(three), bodies=[each.hex() for each in three]),
        vector("part-first", "PART", frames.encode_first_part(8, b"abc"), total=8, body=body("abc")),
        vector("part-next", "PART", frames.frame(frames.PART, b"def"), body=body("def")),
        vector("part-last-is-data", "DATA", frames.frame(frames.DATA, b"gh"), body=body("gh")),
        vector("ack", "ACK", encode_ack(*marks.values()), **marks),
        vector("ack-now", "ACK_NOW", frames.frame(frames.ACK_NOW)),
        vector("reject", "REJECT", frames.encode_reject(7, "decode", "not JSON: é"), **rejection),
        vector("dropped", "DROPPED", frames.encode_dropped(4, 6), first=4, last=6),
    ]


def numbers() -> list[dict[str, Any]]:
    def one(type: str, number: int) -> dict[str, Any]:
        name = type.lower().replace("_", "-")
        return vector(name, type, encode_number(frames.Type[type], number), number=number)

    return [
        one("PING", 1_000_000),
        one("PONG", 1_000_000),
        one("END", 3),
        one("END_ACK", 3),
        one("GOAWAY", 3),
    ]


def proofs() -> list[dict[str, Any]]:
    """One conversation, without TLS and with: all that the MACs cover, and the three frames."""

    def one(name: str, certificate: bytes) -> dict[str, Any]:
        secret, said = b"correct horse battery staple", encode(hello())[4:]
        lookup = lambda name: [secret]  # noqa: E731
        theirs, ours = b"\x33" * 32, b"\x44" * 32
        server = auth.ServerSide(lookup, said, theirs, "server", certificate)
        client = auth.ClientSide(lookup, said)
        challenge = server.challenge()
        proof = client.prove(challenge[4:], ours, certificate)
        assert proof is not None
        answer = server.check(proof[4:], "client")
        assert answer is not None and client.check(answer[4:])
        parts = {"secret": secret, "hello": said, "client_nonce": ours, "certificate": certificate}
        written = {"challenge": challenge, "client_proof": proof, "server_proof": answer}
        return {"name": name} | {key: value.hex() for key, value in (parts | written).items()}

    return [one("secret", b""), one("secret-under-tls", b"\x55" * 32)]


def violations() -> list[dict[str, str]]:
    table = [
        ("unknown-type", "7f000000", "below 0x80 every type must be known"),
        ("data-too-long", "10100001", "DATA carries at most 1 MiB: refused at its header"),
        ("ack-short", "1300001f" + "00" * 31, "an ACK has 32 bytes"),
        ("batch-empty", "1100000400000000", "a BATCH holds at least one message"),
        ("batch-lengths", "1100000a00000001000000036162", "the lengths do not add up"),
        ("part-over-total", "1200000b0000000000000002616263", "three bytes of a message that has two"),
        ("ask-unknown-flag", "18000009000000000000000110", "flag 0x10 means nothing"),
        ("reject-not-utf8", "1500000b00000000000000010000ff", "a text must be UTF-8"),
        ("dropped-backwards", "1f00001000000000000000020000000000000001", "from 2 to 1"),
    ]
    return [{"name": name, "hex": hex, "why": why} for name, hex, why in table]


def step(side: str, note: str, *encoded: bytes, connection: int = 1, **others: Any) -> dict[str, Any]:
    data = b"".join(encoded)
    found = Decoder().receive(data.removeprefix(PREFACE))
    types = [frames.type_name(kind) for kind, _ in found]
    return {
        "from": side,
        "connection": connection,
        **others,
        "frames": types,
        "note": note,
        "hex": data.hex(),
    }


def p2p() -> dict[str, Any]:
    steps = [
        step("client", "opens", greeting(hello())),
        step("server", "lets it in", greeting(welcome())),
        step("client", 'sends "hello"', frames.frame(frames.DATA, b"hello")),
        step(
            "server",
            '"hello" was taken; sends "one" and "two"',
            encode_ack(1, 1, BYTES + 5, UNITS + 1),
            frames.encode_batch([b"one", b"two"]),
            sends=[body("one"), body("two")],
        ),
        step(
            "client",
            "both were taken; ends after unit 1",
            encode_ack(2, 2, BYTES + 6, UNITS + 2),
            encode_number(frames.END, 1),
        ),
        step(
            "server",
            "has all of it; ends after unit 2",
            encode_ack(1, 1, BYTES + 5, UNITS + 1),
            encode_number(frames.END_ACK, 1),
            encode_number(frames.END, 2),
        ),
        step(
            "client",
            "has all of it; both close",
            encode_ack(2, 2, BYTES + 6, UNITS + 2),
            encode_number(frames.END_ACK, 2),
        ),
    ]
    title = "P2P: hello, two messages back, END from the client"
    return {"name": "p2p", "title": title, "pattern": "p2p", "delivers": [body("hello")], "steps": steps}


def resume() -> dict[str, Any]:
    again = hello(epoch=2, incarnation=INCARNATION, age=1.0)
    steps = [
        step("client", "opens", greeting(hello())),
        step("server", "lets it in", greeting(welcome())),
        step(
            "client",
            'sends "one"; then the connection breaks, and "two" and "three" are lost on the way',
            frames.frame(frames.DATA, b"one"),
        ),
        step(
            "client",
            "comes back: same session, next epoch, nothing received so far",
            greeting(again),
            connection=2,
        ),
        step(
            "server",
            "knows the session, and has its first unit",
            greeting(welcome(received=1, resumed=True)),
            encode_ack(1, 0, BYTES, UNITS),
            connection=2,
        ),
        step(
            "client",
            "sends what is missing, from unit 2 on",
            frames.encode_batch([b"two", b"three"]),
            connection=2,
        ),
        step("server", "has three, none is taken yet", encode_ack(3, 0, BYTES, UNITS), connection=2),
    ]
    delivers = [body("one"), body("two"), body("three")]
    title = "P2P: a connection breaks, the session resumes"
    return {"name": "resume", "title": title, "pattern": "p2p", "delivers": delivers, "steps": steps}


def p2m() -> dict[str, Any]:
    three = [b"a", b"bb", b"ccc"]
    steps = [
        step(
            "client",
            "preface, HELLO, all messages and END in one write",
            greeting(hello("p2m")),
            frames.encode_batch(three),
            encode_number(frames.END, 3),
        ),
        step(
            "server",
            "has all of it; has nothing to say itself",
            greeting(welcome()),
            encode_ack(3, 0, BYTES, UNITS),
            encode_number(frames.END_ACK, 3),
            encode_number(frames.END, 0),
        ),
        step("client", "both close", encode_ack(0, 0, BYTES, UNITS), encode_number(frames.END_ACK, 0)),
    ]
    delivers = [each.hex() for each in three]
    title = "P2M: three messages in one round trip"
    return {"name": "p2m", "title": title, "pattern": "p2m", "delivers": delivers, "steps": steps}


def ar() -> dict[str, Any]:
    question = b"What time is it?"
    steps = [
        step(
            "client",
            "preface, HELLO, the ask (30 s left) and END in one write",
            greeting(hello("ar", credit=(UNLIMITED, UNLIMITED), resumes=False)),
            frames.encode_ask(1, 0, 30_000, question),
            encode_number(frames.END, 1),
        ),
        step(
            "server",
            "has the ask; answers; ends after unit 1",
            greeting(welcome()),
            encode_ack(1, 1, BYTES + len(question), UNITS + 1),
            encode_number(frames.END_ACK, 1),
            frames.encode_answer(1, 0, b"noon"),
            encode_number(frames.END, 1),
            answers=[body("noon")],
        ),
        step(
            "client",
            "has the answer; both close",
            encode_ack(1, 1, UNLIMITED, UNLIMITED),
            encode_number(frames.END_ACK, 1),
        ),
    ]
    title = "AR: one request, one response, one round trip"
    return {"name": "ar", "title": title, "pattern": "ar", "delivers": [question.hex()], "steps": steps}


def vectors() -> dict[str, Any]:
    refusal = handshake.Refuse("busy", "the place is taken")
    greetings = [
        of_handshake("hello", hello()),
        of_handshake("welcome", welcome()),
        of_handshake("refuse", refusal),
    ]
    return {
        "about": "Test vectors of the Linked wire; docs/protocol.md explains them. Bytes are hexadecimal.",
        "version": frames.VERSION,
        "preface": PREFACE.hex(),
        "frames": [*greetings, *messages(), *asks(), *numbers()],
        "proofs": proofs(),
        "bad": violations(),
        "conversations": [p2p(), resume(), p2m(), ar()],
    }


# -- as Markdown -----------------------------------------------------------------------------------


def wrapped(hex: str) -> str:
    return "\n".join(hex[start : start + WIDTH] for start in range(0, len(hex), WIDTH))


def text_of(hex: str) -> str:
    return json.dumps(bytes.fromhex(hex).decode())


def row(each: dict[str, Any]) -> str:
    shown = []
    for key, value in each["fields"].items():
        if key == "body":
            value = text_of(value)
        elif key == "bodies":
            value = ", ".join(map(text_of, value))
        shown.append(f"{key} {'none' if value is None else value}")
    hex = each["hex"]
    spaced = f"{hex[:8]} {hex[8:]}".strip()
    return f"| {each['name']} | {each['type']} | {', '.join(shown)} | `{spaced}` |"


def markdown(made: dict[str, Any]) -> str:
    lines = ["### The handshake\n"]
    for each in made["frames"][:3]:
        encoded = bytes.fromhex(each["hex"])
        lines.append(f"`{each['name']}`: the header `{each['hex'][:8]}`, then the JSON text:\n")
        lines.append(f"```json\n{encoded[4:].decode()}\n```\n\n```text\n{wrapped(each['hex'])}\n```\n")
    lines += ["### All other frames\n", "| name | frame | fields | bytes |", "|---|---|---|---|"]
    lines += map(row, made["frames"][3:])
    lines.append("\n### The secret\n")
    lines += map(shown_proof, made["proofs"])
    lines += [
        "### Violations\n",
        "A decoder must refuse each of these.\n",
        "| name | bytes | why |",
        "|---|---|---|",
    ]
    lines += [f"| {each['name']} | `{each['hex']}` | {each['why']} |" for each in made["bad"]]
    for conversation in made["conversations"]:
        lines.append(f"\n### {conversation['title']}\n\nConversation `{conversation['name']}`.\n")
        lines += map(paragraph, conversation["steps"])
    return "\n".join(lines).rstrip() + "\n"


def shown_proof(each: dict[str, Any]) -> str:
    lines = [f"`{each['name']}`: the HELLO above, and these (texts as bytes, frames with their headers).\n"]
    lines += ["| part | bytes |", "|---|---|"]
    for key in ("secret", "client_nonce", "certificate", "challenge", "client_proof", "server_proof"):
        lines.append(f"| {key.replace('_', ' ')} | {f'`{each[key]}`' if each[key] else 'none: no TLS'} |")
    return "\n".join(lines) + "\n"


def paragraph(step: dict[str, Any]) -> str:
    data = bytes.fromhex(step["hex"])
    pieces = [PREFACE] if data.startswith(PREFACE) else []
    pieces += [frames.frame(*each) for each in Decoder().receive(data.removeprefix(PREFACE))]
    where = "" if step["connection"] == 1 else " (second connection)"
    title = f"{step['from'].capitalize()}{where}: {step['note']}. Frames: {', '.join(step['frames'])}."
    shown = "\n".join(wrapped(each.hex()) for each in pieces)
    return f"{title}\n\n```text\n{shown}\n```\n"


def main() -> None:
    made = vectors()
    text = json.dumps(made, indent=1, ensure_ascii=False) + "\n"
    (HERE / "vectors.json").write_text(text, encoding="utf-8")
    page = HERE / "protocol.md"
    kept = page.read_text(encoding="utf-8").partition(MARK)[0]
    page.write_text(f"{kept}{MARK}\n{markdown(made)}", encoding="utf-8")


if __name__ == "__main__":
    main()
