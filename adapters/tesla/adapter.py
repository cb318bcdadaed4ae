"""The Tesla adapter: discharge on or off by mode, export rule and tariff; see README.md beside it.

Settings stay until they are changed, so what was found is saved before the first write and restored
by `release`. Only what differs is written: Tesla counts settings by the day.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, time, timedelta
from typing import Any

from adapters.budget import CallBudget, InMemoryCallBudget
from adapters.commands import check_power, done, failed, lease_s, unknown
from adapters.tesla import settings, tariff, wire
from adapters.tesla.auth import TOKEN_URL, InMemoryTokenStore, Tokens, TokenStore
from adapters.tesla.client import TeslaClient
from vpp.domain.device import Capabilities, Command, ControlKind, Fallback, Reading, Receipt
from vpp.domain.errors import Busy, DeviceError, NotApplied, RateLimited, Rejected, TimedOut, Unsupported
from vpp.domain.site import Site
from vpp.ports import Clock, Credentials

_MIN_READ_INTERVAL_S = 300.0
_MAX_LEASE_S = 8 * 3600.0
_ATTEMPTS = 2
_RELEASE_SHARE = 0.2
_Order = Callable[[wire.Json, wire.Json], list[str]]


class TeslaAdapter:
    """Tesla energy sites; a site's address is its energy site id.

    Args:
        base_url: the region's address, as https://fleet-api.prd.na.vn.cloud.tesla.com.
        credentials: see `adapters.tesla.auth.Tokens`.
        clock: stamps readings; says how much of a lease and of a day is left.
        tokens: keeps rotated tokens; in memory by default.
        budget: counts settings per site and UTC day; in memory by default.
        token_url: where tokens are renewed.
        settings_per_day: settings a site may change in a day, a fifth kept for release; None is no limit.
        timeout_s: deadline of one request [s].
        readback_delay_s: machine time left to Tesla between a write and its readback [s].
    """

    name = "tesla"
    control = ControlKind.MODE

    def __init__(
        self,
        base_url: str,
        credentials: Credentials,
        clock: Clock,
        *,
        tokens: TokenStore | None = None,
        budget: CallBudget | None = None,
        token_url: str = TOKEN_URL,
        settings_per_day: int | None = 5,
        timeout_s: float = 10.0,
        readback_delay_s: float = 1.0,
    ) -> None:
        self._clock = clock
        self._budget = budget or InMemoryCallBudget()
        self._settings_per_day = settings_per_day
        self._readback_delay_s = readback_delay_s
        access = Tokens(credentials, tokens or InMemoryTokenStore(), clock, token_url=token_url, timeout_s=timeout_s)
        self._client = TeslaClient(base_url, access, clock, timeout_s=timeout_s)
        self._last: dict[str, tuple[Reading, wire.LiveStatus]] = {}
        self._native: dict[str, Mapping[str, Any]] = {}
        self._control: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def open(self) -> None:
        await self._client.open()

    async def close(self) -> None:
        await self._client.close()

    async def describe(self, site: Site) -> Capabilities:
        """Probe the site.

        Raises:
            Unsupported: it has no battery, or no tariff that could be restored after ours.
        """
        info = await self._client.get(site, "site_info")
        if not wire.has_battery(info):
            raise Unsupported(f"site {site.id} has no battery")
        settings.check_restorable(site, wire.read_settings(info))
        return Capabilities(
            control=ControlKind.MODE,
            readback=True,
            fallback=Fallback.NONE,
            max_lease_s=_MAX_LEASE_S,
            commands_per_day=self._settings_per_day,
            min_read_interval_s=_MIN_READ_INTERVAL_S,
        )

    async def read(self, site: Site) -> Reading:
        """Read live_status; within five minutes of the last one, return that reading again, unchanged."""
        return (await self._status(site))[0]

    async def save_native(self, site: Site) -> Mapping[str, Any]:
        """The settings a command may change, as Tesla words them.

        Raises:
            Busy: settings of an earlier event still stand, so these are not the owner's.
            Unsupported: there is no tariff to come back to.
        """
        present = await self._settings(site)
        settings.check_restorable(site, present)
        self._native[site.id] = present
        return present

    async def apply(self, site: Site, command: Command) -> Receipt:
        """Make the battery discharge (power above zero) until its reserve, or idle (zero).

        Never lowers the backup reserve. Idle means as the owner left it, which needs the settings of
        `save_native` of this process; elsewhere `release` does it.

        Raises:
            Unsupported: charging, or idling without saved settings.
            Rejected: expired, not yet valid, off grid, or refused.
            Busy: storm mode or Tesla's own grid services hold the site.
            RateLimited: no settings left today, or Tesla asks for a pause.
        """
        if command.power_kw < 0:
            raise Unsupported(f"site {site.id}: Tesla cannot be told to charge at a power")
        check_power(site, command.power_kw)
        lease_s(command, self._clock.now(), _MAX_LEASE_S)
        async with self._control[site.id]:
            await self._check_free(site)
            present = await self._settings(site)
            if command.power_kw == 0:
                return await self._idle(site, command, present)
            wanted = settings.event_settings(site, command, present, self._clock.now())
            return await self._reach(site, wanted, present, settings.discharge_order, command)

    async def release(self, site: Site, native: Mapping[str, Any]) -> Receipt:
        """Write back what `save_native` found, where it differs, and read it all back."""
        if not isinstance(native.get(wire.MODE), str):
            raise Rejected(f"the saved native state holds no {wire.MODE}: it is not of a Tesla site")
        async with self._control[site.id]:
            return await self._reach(site, native, await self._settings(site), settings.release_order, None)

    async def _idle(self, site: Site, command: Command, present: wire.Json) -> Receipt:
        if not tariff.is_ours(present.get(wire.TARIFF)):
            return done(command, self._clock.now(), {"power_kw": 0.0})
        native = self._native.get(site.id)
        if native is None:
            raise Unsupported(f"site {site.id} discharges until it is released with its saved settings")
        return await self._reach(site, native, present, settings.release_order, command, restoring=True)

    async def _reach(
        self,
        site: Site,
        wanted: wire.Json,
        present: wire.Json,
        order: _Order,
        command: Command | None,
        *,
        restoring: bool = False,
    ) -> Receipt:
        """Write what differs, read back, and resend once what was accepted but not applied."""
        unlimited = restoring or command is None
        for attempt in range(_ATTEMPTS):
            names = order(wanted, present)
            if not names:
                break
            try:
                stopped = await self._write(site, names, wanted, unlimited=unlimited)
            except DeviceError as error:
                if attempt == 0:
                    raise
                if isinstance(error, RateLimited):
                    break  # no second try is left today: what matters is that the first did not take
                return failed(command, self._clock.now(), error)
            if stopped is not None and not isinstance(stopped, TimedOut):
                return failed(command, self._clock.now(), stopped)
            found = await self._read_back(site)
            if isinstance(found, DeviceError):
                return unknown(command, self._clock.now(), stopped or found)
            present = found
            if stopped is not None and order(wanted, present):
                # It may still be on its way: whoever asks next reads first.
                return unknown(command, self._clock.now(), stopped)
        if order(wanted, present):
            wrong = NotApplied(settings.describe_differences(wanted, present))
            return failed(command, self._clock.now(), wrong, settings.seen(present))
        return done(command, self._clock.now(), settings.seen(present))

    async def _write(self, site: Site, names: list[str], wanted: wire.Json, *, unlimited: bool) -> DeviceError | None:
        """Write settings one by one. Returns what stopped it after something was sent, raises if nothing was."""
        await self._take_budget(site, len(names), unlimited=unlimited)
        for position, name in enumerate(names):
            try:
                await self._client.post(site, *wire.write_of(name, wanted))
            except DeviceError as error:
                if position == 0 and not isinstance(error, TimedOut):
                    raise
                return error
        return None

    async def _read_back(self, site: Site) -> dict[str, Any] | DeviceError:
        if self._readback_delay_s > 0:
            await asyncio.sleep(self._readback_delay_s)
        try:
            return await self._settings(site)
        except DeviceError as error:
            return error

    async def _take_budget(self, site: Site, writes: int, *, unlimited: bool) -> None:
        """Count settings before they are written. Release is counted too but never held back by us.

        What is changed must be changed back today, so as many again are left for that.
        """
        now = self._clock.now()
        a_day = self._settings_per_day
        most = None if unlimited or a_day is None else min(int(a_day * (1 - _RELEASE_SHARE)), a_day - writes)
        if not await self._budget.take(f"tesla:{site.address}", now.date(), writes, most):
            tomorrow = datetime.combine(now.date() + timedelta(days=1), time(), UTC)
            raise RateLimited(
                f"site {site.id}: {writes} settings to change and to change back exceed what is left of {a_day} a day",
                retry_at=tomorrow,
            )

    async def _settings(self, site: Site) -> dict[str, Any]:
        return wire.read_settings(await self._client.get(site, "site_info"))

    async def _status(self, site: Site) -> tuple[Reading, wire.LiveStatus]:
        last = self._last.get(site.id)
        if last is not None and (self._clock.now() - last[0].received_at).total_seconds() < _MIN_READ_INTERVAL_S:
            return last
        status = wire.read_live_status(await self._client.get(site, "live_status"))
        at = self._clock.now()
        reading = Reading(
            device_id=site.device_id,
            measured_at=status.measured_at or at,
            received_at=at,
            battery_kw=status.battery_kw,
            grid_kw=status.grid_kw,
            soc=status.soc,
            islanded=status.islanded,
            controllable=not (status.storm_mode or status.grid_services),
        )
        self._last[site.id] = reading, status
        return reading, status

    async def _check_free(self, site: Site) -> None:
        status = (await self._status(site))[1]
        if status.storm_mode:
            raise Busy(f"site {site.id} is in storm mode")
        if status.grid_services:
            raise Busy(f"site {site.id} is held by Tesla's own grid services")
        if status.islanded:
            raise Rejected(f"site {site.id} is off grid")
