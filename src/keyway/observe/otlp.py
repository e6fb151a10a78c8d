"""Sends spans by OTLP over HTTP, in a thread of its own: whoever hands one over waits for nothing.

OpenTelemetry's packages are loaded when there is something to send them: they come with the extra `keyway[traces]`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

from keyway.observe.log import event
from keyway.observe.spans import Span

if TYPE_CHECKING:
    from pathlib import Path

    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import SpanContext

__all__ = ["Destination", "Export", "SpanQueue", "SpansError", "exporter"]

BACKLOG: Final = 8192
"""Spans that may wait to be sent. Those that come on top are dropped, and counted."""
BATCH: Final = 512
"""Spans that are sent in one request."""
DELAY: Final = 1.0
"""Seconds that a span waits for others."""
TIMEOUT: Final = 10.0
"""Seconds that a request may take, with all attempts."""
QUIET: Final = 60.0
"""Seconds between two lines of the log that tell of lost spans."""


class SpansError(Exception):
    """Spans can't be sent, whatever the receiver does."""


class Destination(Protocol):
    """Where spans go: the section [traces] of the configuration.

    Attributes:
        endpoint: URL of the receiver.
        service: Name of the service that they are of.
        ca: PEM file with the CAs of the receiver's certificate.
        certificate: PEM file with the certificate that it is shown.
        key: PEM file with the key of that.
    """

    @property
    def endpoint(self) -> str: ...  # noqa: D102
    @property
    def service(self) -> str: ...  # noqa: D102
    @property
    def ca(self) -> Path | None: ...  # noqa: D102
    @property
    def certificate(self) -> Path | None: ...  # noqa: D102
    @property
    def key(self) -> Path | None: ...  # noqa: D102


class Export(Protocol):
    """Sends spans to where they belong."""

    def send(self, spans: Sequence[Span]) -> bool:
        """Send spans and return whether they were taken. May take TIMEOUT seconds."""

    def stop(self) -> None:
        """Let an attempt under way be the last one."""


class SpanQueue:
    """Spans that wait to be sent, and the thread that does it.

    Attributes:
        sent: How many the receiver has taken.
    """

    def __init__(self, export: Export) -> None:
        """Start the thread.

        Args:
            export: Sends them.
        """
        self.sent = 0
        self._export = export
        self._waiting: deque[Span] = deque()
        self._without_room = 0
        """Spans that were dropped. Counted by who hands them over; what is below, by the thread."""
        self._refused = 0
        self._told = 0
        self._told_at = -QUIET
        self._wake = threading.Event()
        self._is_closing = False
        # A receiver that hangs holds up nobody, the end of the process included.
        self._thread = threading.Thread(target=self._run, name="spans", daemon=True)
        self._thread.start()

    @property
    def lost(self) -> int:
        """How many found no room to wait, or were not taken by the receiver."""
        return self._without_room + self._refused

    def take(self, span: Span) -> None:
        """Take a span. It is sent a little later, with others."""
        if len(self._waiting) >= BACKLOG:
            self._without_room += 1
            return
        self._waiting.append(span)
        if len(self._waiting) == BATCH:
            self._wake.set()

    def status(self) -> dict[str, Any]:
        """Return how it does, for `keyway status`."""
        return {"sent": self.sent, "lost": self.lost, "waiting": len(self._waiting)}

    def close(self, seconds: float) -> None:
        """Send what waits, as far as that is done within a time. Blocks.

        Args:
            seconds: The time.
        """
        self._is_closing = True
        self._wake.set()
        self._thread.join(seconds)
        left = len(self._waiting) + self.lost - self._told
        self._export.stop()
        if left:
            event(logging.WARNING, "spans lost", spans=left)

    def _run(self) -> None:
        while not self._is_closing:
            self._wake.wait(DELAY)
            self._wake.clear()
            while self._waiting:
                self._send()
                self._tell()
            self._tell()

    def _send(self) -> None:
        # They wait until it is known what becomes of them. Nobody else takes any out.
        batch = [self._waiting[at] for at in range(min(BATCH, len(self._waiting)))]
        is_sent = self._export.send(batch)
        for _ in batch:
            self._waiting.popleft()
        if is_sent:
            self.sent += len(batch)
        else:
            self._refused += len(batch)

    def _tell(self) -> None:
        lost, now = self.lost, time.monotonic()
        if lost > self._told and now - self._told_at >= QUIET and not self._is_closing:
            event(logging.WARNING, "spans lost", spans=lost - self._told)
            self._told, self._told_at = lost, now


class _Otlp:
    """A receiver of OTLP over HTTP."""

    def __init__(self, options: Destination, version: str) -> None:
        import requests
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace.export import SpanExportResult
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope

        # Its own lines would come with each attempt.
        logging.getLogger("opentelemetry").addHandler(logging.NullHandler())
        logging.getLogger("opentelemetry").propagate = False
        self._good = SpanExportResult.SUCCESS
        self._resource = Resource.create({"service.name": options.service, "service.version": version})
        self._scope = InstrumentationScope("keyway", version)
        session = requests.Session()
        session.trust_env = False  # Spans go where the configuration says, and to no proxy that a variable names.
        self._exporter = OTLPSpanExporter(
            options.endpoint,
            _text(options.ca),
            _text(options.key),
            _text(options.certificate),
            timeout=TIMEOUT,
            session=session,
        )

    def send(self, spans: Sequence[Span]) -> bool:
        """Send spans and return whether they were taken."""
        try:
            return self._exporter.export([self._span(each) for each in spans]) is self._good
        except OSError:  # A TLS file can't be read.
            return False

    def stop(self) -> None:
        """Let an attempt under way be the last one."""
        self._exporter.shutdown()  # type: ignore[no-untyped-call]

    def _span(self, span: Span) -> ReadableSpan:
        from opentelemetry.sdk.trace import ReadableSpan
        from opentelemetry.trace import SpanKind, Status, StatusCode

        return ReadableSpan(
            span.name,
            _context(span.trace, span.id),
            _context(span.trace, span.parent) if span.parent else None,
            self._resource,
            span.attributes,
            kind=SpanKind.SERVER,
            status=Status(StatusCode.ERROR, span.error) if span.error else Status(StatusCode.UNSET),
            start_time=span.start,
            end_time=span.end,
            instrumentation_scope=self._scope,
        )


def exporter(options: Destination, version: str) -> Export:
    """Return what sends spans.

    Args:
        options: Where to.
        version: Keyway's version.

    Raises:
        SpansError: OpenTelemetry is not installed, or a TLS file is not there.
    """
    for path in (options.ca, options.certificate, options.key):
        if path is not None and not path.is_file():
            raise SpansError(f"traces: {path}: no such file")
    try:
        return _Otlp(options, version)
    except ImportError as error:
        raise SpansError(f"traces need OpenTelemetry: pip install 'keyway[traces]' ({error})") from error


def _context(trace: int, span: int) -> SpanContext:
    from opentelemetry.trace import SpanContext, TraceFlags

    return SpanContext(trace, span, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
