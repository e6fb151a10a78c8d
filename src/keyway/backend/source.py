"""Where the hosts of a backend come from: copies of a seed where that works, processes that load the module where not."""

from collections.abc import Callable
from typing import Final

from keyway.backend.host import Host, HostSettings, start
from keyway.backend.output import OutputReader
from keyway.backend.seed import Seed, SeedError, sow
from keyway.cryptoki import call_named

__all__ = ["HostSource"]

_INITIALIZE: Final = call_named("C_Initialize").number
_FINALIZE: Final = call_named("C_Finalize").number


class HostSource:
    """Brings new hosts, one at a time.

    Attributes:
        kind: What it brings.
        copies: Whether they are copies. Turned off for good when the module turns out to be of a kind that can't be copied.
    """

    kind = Host.kind

    def __init__(
        self,
        settings: HostSettings,
        output: OutputReader,
        warm_up: bytes | None,
        note: Callable[[str], None],
        *,
        copies: bool,
    ) -> None:
        """Describe the hosts; nothing is started yet.

        Args:
            settings: How to start a host.
            output: Reads what the hosts print; closed with this.
            warm_up: Body of the C_Initialize that, with a C_Finalize, warms up a seed's module; None: it is only loaded.
            note: Called with the reason when hosts can't be copies.
            copies: Whether to try.
        """
        self.copies = copies
        self._settings = settings
        self._output = output
        self._warm_up = warm_up
        self._note = note
        self._seed: Seed | None = None
        self._proven = False

    async def bring(self) -> Host:
        """Return a new host whose module is loaded but not initialised; it belongs to the caller.

        Raises:
            HostError: It can't be had.
        """
        while self.copies:
            try:
                seed = await self._living_seed()
                host = await seed.copy()
            except SeedError as error:
                if self._proven and self._seed is not None and self._seed.is_alive:
                    # There may be no room now; the copies that clients have end with the seed, so it stays.
                    break
                await self._end_seed()
                # A seed that has made copies can make them again; if it ended, that was not the module's nature.
                self.copies = self._proven
                self._proven = False
                if not self.copies:
                    self._note(str(error))
            else:
                self._proven = True
                return host
        return await start(self._settings, self._output.descriptor)

    async def close(self) -> None:
        """End the seed, and the copies that are still there, and wait until they have ended."""
        await self._end_seed()
        self._output.close()

    async def _end_seed(self) -> None:
        if self._seed is not None:
            seed, self._seed = self._seed, None
            seed.close()
            await seed.process.ended

    async def _living_seed(self) -> Seed:
        if self._seed is None or not self._seed.is_alive:
            seed = await sow(self._settings, self._output.descriptor)
            try:
                if self._warm_up is not None and not await seed.call(_INITIALIZE, self._warm_up):
                    # A module that fails here, its HSM being away, is no worse for it: each copy initialises it again.
                    await seed.call(_FINALIZE)
            except BaseException:
                # Copies of a seed that is half warmed up would find the module initialised.
                seed.close()
                raise
            self._seed = seed
        return self._seed
