"""Where the audit log goes, and what writes it there."""

from keyway.observe.audit_sinks.file import FileSink
from keyway.observe.audit_sinks.log import AuditLog, Signer
from keyway.observe.audit_sinks.sink import Sink
from keyway.observe.audit_sinks.stdout import StdoutSink
from keyway.observe.audit_sinks.syslog import SyslogSink

__all__ = ["AuditLog", "FileSink", "Signer", "Sink", "StdoutSink", "SyslogSink"]
