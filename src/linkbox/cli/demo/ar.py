"""AR: processes send requests from several threads, with and without ``keep_alive``."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import psutil

import linkbox
from linkbox import AnswerError, ClientAR, Json, LinkboxError, Request, ServerAR
from linkbox.cli.demo.part import PATIENCE, Check, Child, ChildFailed, Line, compare, failure, ticks

THREADS = 3
RATE = 40.0
"""Requests per second of each thread."""
ASKERS = {"keeper": True, "visitor": False}
"""The clients, and whether each keeps its connection."""
TEXT = Path(linkbox.__file__)
PIECES = 7


def piece_of_text(number: int) -> bytes:
    """A piece of a file that both sides have."""
    text = TEXT.read_bytes()
    step = len(text) // PIECES + 1
    return text[number * step : (number + 1) * step]


# -- the children ------------------------------------------------------------------------------------


class Asker:
    """One thread that sends requests and checks the responses."""

    def __init__(self, client: ClientAR[Any, Any], name: str) -> None:
        self.asked: list[str] = []
        self.wrong: list[str] = []
        self._client = client
        self._name = name

    def run(self, seconds: float) -> None:
        """Send requests for that many seconds."""
        for number in ticks(seconds, RATE):
            id = f"{self._name}/{number}"
            self.asked.append(id)
            try:
                is_right = self._ask(id, number)
            except LinkboxError as error:
                self.wrong.append(f"{id}: {type(error).__name__}: {error}")
            else:
                if not is_right:
                    self.wrong.append(f"{id}: a wrong response")

    def _ask(self, id: str, number: int) -> bool:
        if number % 20 == 0:
            top = self._client.ask({"id": id, "do": "top", "count": 3}, timeout=PATIENCE)
            return 0 < len(top) <= 3 and all(name and memory >= 0 for name, memory in top)
        if number % 20 == 10:  # a failure of the handler must arrive with its type and text
            try:
                self._client.ask({"id": id, "do": "fail"}, timeout=PATIENCE)
            except AnswerError as error:
                return error.type == "LookupError" and id in error.text
            return False
        piece = number % PIECES
        answer = self._client.ask({"id": id, "do": "sha256", "piece": piece}, timeout=PATIENCE)
        return bool(answer == hashlib.sha256(piece_of_text(piece)).hexdigest())


def ask_a_lot(name: str, address: str, seconds: float) -> dict[str, Any]:
    """The work of a child: several threads send requests over one client."""
    with ClientAR[Any, Any](address, Json(), keep_alive=ASKERS[name], name=name) as client:
        askers = [Asker(client, f"{name}/{number}") for number in range(THREADS)]
        threads = [threading.Thread(target=asker.run, args=(seconds,)) for asker in askers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    asked = sorted(id for asker in askers for id in asker.asked)
    return {"asked": digest(asked), "wrong": [text for asker in askers for text in asker.wrong]}


def digest(ids: list[str]) -> dict[str, Any]:
    """The number of ids, and a hash of them."""
    return {"count": len(ids), "digest": hashlib.sha256("\n".join(ids).encode()).hexdigest()}


# -- the server --------------------------------------------------------------------------------------


class Answers:
    """A ServerAR with a handler that does real work, for several requests at a time."""

    title = "AR · processes request data about this machine (Json)"

    def __init__(self) -> None:
        self.happened: list[tuple[float, str]] = []
        self._server = ServerAR("tcp://127.0.0.1:0", Json(), handler=self.handle)
        self._children: list[Child] = []
        self._lock = threading.Lock()
        self._executed: dict[str, Counter[str]] = {name: Counter() for name in ASKERS}
        self._last = dict.fromkeys(ASKERS, "…")

    def start(self, seconds: float) -> None:
        """Start the server and its clients."""
        self._server.start()
        self._children = [Child("ar", name, self._server.address, seconds) for name in ASKERS]

    def handle(self, request: Request[Any]) -> Any:
        """Handle one request."""
        ask = request.data
        answer, text = self._work(ask)
        with self._lock:
            self._executed[request.peer.name][ask["id"]] += 1
            if text:
                self._last[request.peer.name] = text
        if answer is None:
            raise LookupError(f"{ask['id']} requests a failure")
        return answer

    def _work(self, ask: dict[str, Any]) -> tuple[Any, str]:
        """The response (None: a failure), and what is new to show."""
        if ask["do"] == "top":
            found = [process.info for process in psutil.process_iter(["name", "memory_percent"])]
            found.sort(key=lambda info: -(info["memory_percent"] or 0))
            top = [[info["name"], info["memory_percent"] or 0] for info in found[: ask["count"]]]
            return top, f"largest: {top[0][0]:.10} {top[0][1]:.1f} %" if top else ""
        if ask["do"] == "sha256":
            answer = hashlib.sha256(piece_of_text(ask["piece"])).hexdigest()
            return answer, ""
        return None, ""

    def lines(self) -> list[Line]:
        """The current state."""
        with self._lock:
            return [
                Line(
                    f"{name}, keep_alive" if keeps else name,
                    self._executed[name].total(),
                    self._last[name],
                )
                for name, keeps in ASKERS.items()
            ]

    def finish(self) -> list[Check]:
        """Wait for the clients, stop, compare."""
        checks = []
        for child in self._children:
            try:
                report = child.report()
            except ChildFailed as error:
                checks.append(failure("AR", child.name, error))
                continue
            checks.append(self._check(child.name, report))
        self.close()
        return checks

    def _check(self, name: str, report: dict[str, Any]) -> Check:
        wrong = report["wrong"]
        problem = f"{len(wrong)} responses were wrong, such as {wrong[0]}" if wrong else ""
        with self._lock:
            executed = digest(sorted(self._executed[name].elements()))
        verdict = "right, executed once"
        return compare("AR", name, report["asked"], executed, verdict, problem)

    def close(self) -> None:
        """Stop everything."""
        for child in self._children:
            child.kill()
        self._server.stop()
