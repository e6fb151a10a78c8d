"""The audit log: what a record is, how lines are chained, and how that is verified. No I/O and no clock (docs/guides/audit.md)."""

from keyway.observe.audit.calls import AUDITED
from keyway.observe.audit.chain import FIRST, Chain, header, read_header, read_line, signed_message
from keyway.observe.audit.record import Checkpoint, Record
from keyway.observe.audit.verification import Finding, Findings, Verifier, verify

__all__ = [
    "AUDITED",
    "FIRST",
    "Chain",
    "Checkpoint",
    "Finding",
    "Findings",
    "Record",
    "Verifier",
    "header",
    "read_header",
    "read_line",
    "signed_message",
    "verify",
]
