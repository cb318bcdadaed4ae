"""The SunSpec adapter: reads 701, 713 and the site meter, steers with 704; see README.md beside it.

A command writes the power and the device's own reversion timer first and enables last, then reads
everything back. The timer is the lease: if we fall silent the device ends the command by itself.
"""

from collections.abc import Mapping
from typing import Any

from adapters.commands import check_power, differing, done, failed, lease_s, unknown
from adapters.sunspec import wire
from adapters.sunspec.client import SunSpecClient, SunSpecUnit
from vpp.domain.device import Capabilities, Command, ControlKind, Fallback, Reading, Receipt
from vpp.domain.errors import Busy, DeviceError, NotApplied, Rejected, TimedOut, Unsupported
from vpp.domain.site import Site
from vpp.ports import Clock

_READ = (
    wire.DER_MEASURE,
    wire.DER_STORAGE,
    wire.DER_CONTROL,
    wire.BATTERY_BASE,
    *wire.METERS_INT,
    *wire.METERS_FLOAT,
)
_CONTROL = (wire.DER_CONTROL_AC, wire.DER_MEASURE, wire.DER_CONTROL, wire.BATTERY_BASE)
_MAX_LEASE_TIMER_S = 4 * 3600.0
_MAX_LEASE_NO_TIMER_S = 900.0


class SunSpecAdapter:
    """SunSpec devices; a site's address is "host:port/unit".

    Args:
        clock: stamps readings and says how much of a command's lease is left.
        connect_timeout_s, read_timeout_s: deadlines of one connect and one request [s].
    """

    name = "sunspec"
    control = ControlKind.SETPOINT_KW

    def __init__(self, clock: Clock, *, connect_timeout_s: float = 3.0, read_timeout_s: float = 5.0) -> None:
        self._clock = clock
        self._client = SunSpecClient(clock, connect_timeout_s=connect_timeout_s, read_timeout_s=read_timeout_s)

    async def open(self) -> None:
        """Nothing to do: each site is connected to when it is first needed."""

    async def close(self) -> None:
        await self._client.close()

    async def describe(self, site: Site) -> Capabilities:
        """Probe for an active-power setpoint in watts.

        Raises:
            Unsupported: the device declares none, or gives it no scale.
        """
        unit = self._client.unit(site.address)
        found = await unit.read_models((wire.DER_CONTROL_AC, wire.DER_CAPACITY), needed=wire.DER_CONTROL_AC)
        registers = _steerable(site, found)
        timer = _has_timer(registers)
        return Capabilities(
            control=ControlKind.SETPOINT_KW,
            readback=True,
            fallback=Fallback.DEVICE_TIMER if timer else Fallback.NONE,
            max_lease_s=_MAX_LEASE_TIMER_S if timer else _MAX_LEASE_NO_TIMER_S,
        )

    async def read(self, site: Site) -> Reading:
        """Read battery and meter. SunSpec carries no clock, so `measured_at` is our time of arrival."""
        found = await self._client.unit(site.address).read_models(_READ)
        at = self._clock.now()
        der = wire.read_der(found.get(wire.DER_MEASURE, ()))
        socs = [wire.read_soc(model, found[model]) for model in (wire.DER_STORAGE, wire.BATTERY_BASE) if model in found]
        meters = [model for model in (*wire.METERS_INT, *wire.METERS_FLOAT) if model in found]
        return Reading(
            device_id=site.device_id,
            measured_at=at,
            received_at=at,
            battery_kw=der.power_kw,
            grid_kw=wire.read_meter(meters[0], found[meters[0]]) if meters else None,
            soc=next((soc for soc in socs if soc is not None), None),
            discharged_kwh_register=der.injected_kwh,
            charged_kwh_register=der.absorbed_kwh,
            islanded=der.disconnected,
            controllable=not (der.fault or _local(found)),
        )

    async def save_native(self, site: Site) -> Mapping[str, Any]:
        """The active-power settings of model 704, unscaled."""
        found = await self._client.unit(site.address).read_models((wire.DER_CONTROL_AC,))
        return dict(wire.read_controls(_steerable(site, found)))

    async def apply(self, site: Site, command: Command) -> Receipt:
        """Set the battery's power until the command expires. Repeating a command changes nothing.

        Raises:
            Rejected: expired, not yet valid, off grid, or the device refuses.
            OutOfRange: outside the battery's power or the register.
            Busy: the device is under local control.
            Unreachable, Unsupported, ProtocolError: nothing was changed.
        """
        check_power(site, command.power_kw)
        unit = self._client.unit(site.address)
        async with unit.control:
            found = await unit.read_models(_CONTROL, needed=wire.DER_CONTROL_AC)
            registers = _steerable(site, found)
            if _local(found):
                raise Busy(f"site {site.id} is switched to local control")
            if wire.read_der(found.get(wire.DER_MEASURE, ())).disconnected:
                raise Rejected(f"site {site.id} is off grid")
            timer = _has_timer(registers)
            timer_s = lease_s(command, self._clock.now(), _MAX_LEASE_TIMER_S if timer else _MAX_LEASE_NO_TIMER_S)
            wanted = _settings_for(command.power_kw, timer_s, registers)
            return await self._change(unit, wanted, enable=True, command=command)

    async def release(self, site: Site, native: Mapping[str, Any]) -> Receipt:
        """Write back what `save_native` found and read it back.

        The setpoint is switched off before anything else is touched, and on again, where it was on,
        only after everything else stands. What already reads as it should is not written.
        """
        wanted = _native_settings(native)
        unit = self._client.unit(site.address)
        async with unit.control:
            found = await unit.read_models((wire.DER_CONTROL_AC,))
            present = wire.read_controls(_steerable(site, found))
            changes = {name: value for name, value in wanted.items() if present[name] != value}
            if not changes:
                return done(None, self._clock.now(), _seen(found[wire.DER_CONTROL_AC]))
            return await self._change(unit, wanted, enable=wanted["WSetEna"] == wire.ENABLED, changes=changes)

    async def _change(
        self,
        unit: SunSpecUnit,
        wanted: dict[str, int],
        *,
        enable: bool,
        command: Command | None = None,
        changes: dict[str, int] | None = None,
    ) -> Receipt:
        """Write `changes` (all of `wanted` by default), then read back and compare with `wanted`.

        A refusal is raised while nothing is written, and is a receipt once something is.
        """
        doubt: DeviceError | None = None
        written = False
        for offset, registers in _writes(changes or wanted, enable=enable, restoring=command is None):
            try:
                await unit.write(wire.DER_CONTROL_AC, offset, registers)
                written = True
            except TimedOut as error:
                doubt = error
                break
            except DeviceError as error:
                if not written:
                    raise
                return failed(command, self._clock.now(), error)
        return await self._verify(unit, wanted, command, doubt)

    async def _verify(
        self, unit: SunSpecUnit, wanted: dict[str, int], command: Command | None, doubt: DeviceError | None
    ) -> Receipt:
        try:
            registers = (await unit.read_models((wire.DER_CONTROL_AC,))).get(wire.DER_CONTROL_AC, ())
        except DeviceError as error:
            return unknown(command, self._clock.now(), doubt or error)
        seen = _seen(registers)
        wrong = differing(wanted, seen)
        if wrong is None and command is not None:
            wrong = _timer_stands_still(registers, wanted)
        if wrong is not None and doubt is not None:
            # The write that went unanswered may still land: whoever asks next reads first.
            return unknown(command, self._clock.now(), doubt)
        if wrong is not None:
            return failed(command, self._clock.now(), wrong, seen)
        return done(command, self._clock.now(), seen)


def _steerable(site: Site, found: Mapping[int, tuple[int, ...]]) -> tuple[int, ...]:
    """Model 704's registers, if they can carry a setpoint in watts."""
    registers = found.get(wire.DER_CONTROL_AC)
    if registers is None:
        raise Unsupported(f"site {site.id}: the device has no model 704 (DER AC controls)")
    for name in ("WSetEna", "WSet"):
        if wire.whole(wire.CONTROLS[name], registers) is None:
            raise Unsupported(f"site {site.id}: the device does not implement 704.{name}")
    if wire.exponent(wire.SET_W_SCALE, registers) is None:
        raise Unsupported(f"site {site.id}: 704.WSet has no scale factor, so its unit is unknown")
    modes = wire.whole(wire.CONTROL_MODES, found.get(wire.DER_CAPACITY, ()))
    if modes is not None and not modes & wire.FIXED_W_BIT:
        raise Unsupported(f"site {site.id}: 702.CtrlModes declares no fixed active power")
    return registers


def _has_timer(registers: wire.Registers) -> bool:
    return wire.whole(wire.REVERT_TIMER, registers) is not None


def _local(found: Mapping[int, tuple[int, ...]]) -> bool:
    return any(
        wire.read_local(model, found[model]) for model in (wire.DER_CONTROL, wire.BATTERY_BASE) if model in found
    )


def _settings_for(power_kw: float, timer_s: int, registers: wire.Registers) -> dict[str, int]:
    """What 704 must hold for a command: as far as the device implements it.

    When the timer ends, WSetEna takes WSetEnaRvrt's value: disabled, so the device goes back to its
    own way of working rather than to a setpoint of ours.
    """
    setpoint = wire.setpoint_raw(power_kw, registers)
    if setpoint is None:
        raise Unsupported("704.WSet has no scale factor")
    wanted = {
        "WSetEna": wire.ENABLED,
        "WSetMod": wire.MODE_WATTS,
        "WSet": setpoint,
        "WSetRvrt": 0,
        "WSetEnaRvrt": wire.DISABLED,
        "WSetRvrtTms": timer_s,
    }
    present = wire.read_controls(registers)
    return {name: value for name, value in wanted.items() if present[name] is not None}


def _native_settings(native: Mapping[str, Any]) -> dict[str, int]:
    wanted = {name: native.get(name) for name in wire.CONTROLS}
    if not isinstance(wanted["WSetEna"], int):
        raise Rejected("the saved native state holds no WSetEna: it is not of a SunSpec device")
    return {name: value for name, value in wanted.items() if isinstance(value, int)}


def _writes(changes: dict[str, int], *, enable: bool, restoring: bool) -> list[tuple[int, list[int]]]:
    """The writes in order: disable first when restoring, then the values, enable last."""
    values = [(name, value) for name, value in changes.items() if name != "WSetEna"]
    first = [("WSetEna", wire.DISABLED)] if restoring else []
    last = [("WSetEna", wire.ENABLED)] if enable else []
    return [*wire.write_blocks(first), *wire.write_blocks(values), *wire.write_blocks(last)]


def _seen(registers: wire.Registers) -> dict[str, Any]:
    return {
        **wire.read_controls(registers),
        "WSetRvrtRem": wire.whole(wire.REVERT_REMAINING, registers),
        "power_kw": wire.setpoint_kw(registers),
    }


def _timer_stands_still(registers: wire.Registers, wanted: dict[str, int]) -> NotApplied | None:
    """A timer that was written but does not run would leave the battery commanded for ever."""
    remaining_s = wire.whole(wire.REVERT_REMAINING, registers)
    if remaining_s is None or "WSetRvrtTms" not in wanted or 0 < remaining_s <= wanted["WSetRvrtTms"]:
        return None
    return NotApplied(f"WSetRvrtRem reads {remaining_s} s of {wanted['WSetRvrtTms']} s: the timer does not run")
