"""``linkbox doctor --store``: is a store intact, private, and does something in it need a decision?"""

from __future__ import annotations

import stat
import time
from pathlib import Path

from linkbox import StoreError
from linkbox.cli.doctor.report import Report, Status
from linkbox.store.reader import PARTS, Amount, Reader


def diagnose_store(report: Report, path: Path) -> None:
    """Check a store. Raises `Failed`."""
    try:
        status = path.lstat()
    except OSError as error:
        raise report.fail(
            Status.UNREACHABLE,
            "file",
            error.strerror or str(error),
            "check the path; a store is made by its first use",
        ) from error
    report.ok("file", f"{path}, {status.st_size} bytes")
    if stat.S_IMODE(status.st_mode) & 0o077:
        report.note("file", f"other users can read the messages: chmod 600 {path}")
    try:
        with Reader(path) as reader:
            about, summary = reader.about, reader.summary()
            damaged = {part: sum(each.damage is not None for each in reader.messages(part)) for part in PARTS}
    except StoreError as error:
        advice = "is it the right file? `linkbox spool export` saves what can be read"
        raise report.fail(Status.UNREACHABLE, "store", str(error), advice) from error
    report.ok(
        "store", f"of a {about.get('side', '?')} for {about.get('pattern', '?')}, {about.get('format', '?')}"
    )
    for part, amount in (("spool", summary.spool), ("inbox", summary.inbox)):
        report.ok(part, _amount(amount))
    if sum(damaged.values()):
        where = ", ".join(f"{count} {PARTS[part]}" for part, count in damaged.items() if count)
        advice = f"save what is intact with `linkbox spool export {path}`, then remove the file"
        raise report.fail(Status.UNREACHABLE, "damage", f"messages that cannot be read: {where}", advice)
    if summary.doubt.messages:
        advice = f"they may have arrived or not: look at them with `linkbox spool export {path}`"
        raise report.fail(Status.SILENT, "doubt", _amount(summary.doubt), advice)
    if summary.spool.messages:
        flushes = about.get("side") == "client"
        advice = (
            f"`linkbox spool flush {path}` sends them" if flushes else "sent when the peers connect again"
        )
        report.note("spool", advice)


def _amount(amount: Amount) -> str:
    text = f"{amount.messages} messages, {amount.bytes} bytes"
    if amount.messages and amount.since is not None:
        text += f", none older than {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(amount.since))}"
    return text
