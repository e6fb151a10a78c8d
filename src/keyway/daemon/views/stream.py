"""A stream to a token with views: what the daemon's side sees of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyway.backend.stream import Stream
from keyway.daemon.views.context import ViewsContext
from keyway.daemon.within import WithinTransport

if TYPE_CHECKING:
    from keyway.daemon.views.home import ViewsHome

__all__ = ["ViewsStream", "ViewsTransport"]


class ViewsTransport(WithinTransport[ViewsContext]):
    """Hands frames to a context and back, within the process."""

    def __init__(self, home: ViewsHome) -> None:
        super().__init__()
        self.context = ViewsContext(home, self)
        self._busy: set[str] = set()

    def pause_reading(self) -> None:
        """Let no replies come."""
        self.is_paused = True
        if self.context.far is not None:
            self.context.far.host.transport.pause_reading()

    def resume_reading(self) -> None:
        """Let them come again."""
        self.is_paused = False
        if self.context.far is not None:
            self.context.far.host.transport.resume_reading()

    # For the context

    def lost(self) -> None:
        """Say that the stream is over."""
        self.close()

    def set_busy(self, reason: str, busy: bool) -> None:
        """Say that no more requests can be taken for now, for one more reason, or that a reason is gone."""
        was = bool(self._busy)
        if busy:
            self._busy.add(reason)
        else:
            self._busy.discard(reason)
        if was is bool(self._busy) or self._protocol is None or self._is_closing:
            return
        if busy:
            self._protocol.pause_writing()
        else:
            self._protocol.resume_writing()


class ViewsStream(Stream):
    """A stream to a token with views.

    Attributes:
        context: What is at the other end.
    """

    kind = "token with views"

    def __init__(self, home: ViewsHome) -> None:
        super().__init__(home.name)
        self._home = home
        transport = ViewsTransport(home)
        self.transport = transport
        self.context = transport.context

    @property
    def place(self) -> int | str:
        """The token, and the view that was chosen."""
        lead = self.context.lead
        return self._home.token_name if lead is None else lead.shown

    @property
    def behind(self) -> Stream | None:
        """The stream to the token that was chosen; None while there is none."""
        return None if self.context.far is None else self.context.far.host

    def note_lost(self, error: Exception | None) -> None:
        """Do nothing: what counts is the end of what is behind."""

    def end(self, grace: float) -> None:
        """Close the stream. What is behind has its own time."""
        self.transport.close()
        self._home.tasks.start(self._end(), "end of a context with views")

    async def _end(self) -> None:
        how = await self.context.wait_ended()
        if not self.ended.done():
            self._note_end(how)

    def _cut_off(self) -> None:
        """Close the stream, and cut off what is behind."""
        for far in self.context.far, self.context.coming:
            if far is not None:
                far.host.kill(self._why)
        self.transport.close()
