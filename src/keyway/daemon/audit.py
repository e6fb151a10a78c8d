"""The audit log that the configuration asks for."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from keyway.config import AuditOptions
from keyway.observe.audit import Chain
from keyway.observe.audit_sinks import AuditLog, FileSink, Signer, Sink, StdoutSink, SyslogSink

if TYPE_CHECKING:
    from keyway.daemon.reload import Outcome

__all__ = ["open_audit", "reloaded"]


def open_audit(options: AuditOptions, signer: Signer | None, version: str) -> AuditLog:
    """Open the audit log, whose first record says that the gateway starts. Needs a running loop.

    Args:
        options: Says where it goes, at one place at least.
        signer: What signs checkpoints.
        version: Keyway's version.

    Raises:
        AuditError: The file can't be used.
    """
    sinks: list[Sink] = []
    chain, torn = Chain(), 0
    if options.file is not None:
        file = FileSink(options.file, options.max_size, options.keep, syncs=options.sync)
        chain, torn = Chain(file.seq, file.hash), file.torn
        sinks.append(file)
    if options.syslog is not None:
        sinks.append(SyslogSink(options.syslog))
    if options.stdout:
        sinks.append(StdoutSink())
    log = AuditLog(
        sinks,
        chain,
        refuses=options.when_full == "refuse",
        every=options.checkpoint_every,
        seconds=options.checkpoint_seconds,
        signer=signer,
    )
    if torn:
        log.say("recovered", f"{torn} bytes of an unfinished line were cut off")
    log.say("start", f"keyway {version}, process {os.getpid()}")
    return log


def reloaded(log: AuditLog, outcome: Outcome) -> None:
    """Record that the configuration was read again, and what came of it."""
    if outcome.problems:
        log.say("configuration", f"not changed: {len(outcome.problems)} problems")
    else:
        log.say("configuration", "; ".join(outcome.changes) or "nothing has changed")
