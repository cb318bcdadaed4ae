"""What every adapter checks of a command before it sends anything, and how it words a receipt."""

from datetime import datetime
from typing import Any

from vpp.domain.device import Command, Receipt, ReceiptState
from vpp.domain.errors import DeviceError, NotApplied, OutOfRange, Rejected
from vpp.domain.site import Site

_ROUNDING_KW = 1e-6


def lease_s(command: Command, now: datetime, max_lease_s: float) -> int:
    """Seconds a command may stand from now on, rounded down so that it never outlives its expiry.

    Raises:
        Rejected: it is not yet valid or no longer.
        OutOfRange: it would stand longer than the device may go without a word from us.
    """
    if now < command.not_before:
        raise Rejected(f"command {command.id} is not valid before {command.not_before.isoformat()}")
    remaining_s = int((command.expires_at - now).total_seconds())
    if remaining_s < 1:
        raise Rejected(f"command {command.id} expired at {command.expires_at.isoformat()}")
    if remaining_s > max_lease_s:
        raise OutOfRange(f"command {command.id} would stand {remaining_s} s; at most {max_lease_s:.0f} s are allowed")
    return remaining_s


def check_power(site: Site, power_kw: float) -> None:
    """Refuse a power the site's battery was not enrolled with.

    Raises:
        OutOfRange: as said.
    """
    low_kw, high_kw = -site.battery.max_charge_kw, site.battery.max_discharge_kw
    if not low_kw - _ROUNDING_KW <= power_kw <= high_kw + _ROUNDING_KW:
        raise OutOfRange(f"{power_kw} kW is outside {low_kw} to {high_kw} kW of site {site.id}")


def done(command: Command | None, at: datetime, seen: dict[str, Any]) -> Receipt:
    """Carried out and read back."""
    return Receipt(command_id=command.id if command else None, state=ReceiptState.READBACK_OK, at=at, seen=seen)


def failed(command: Command | None, at: datetime, error: DeviceError, seen: dict[str, Any] | None = None) -> Receipt:
    """Not carried out, or only in part: `error` says why and whether to try again."""
    return Receipt(
        command_id=command.id if command else None,
        state=ReceiptState.FAILED,
        at=at,
        reason=f"{type(error).__name__}: {error}",
        retryable=error.retryable,
        seen=seen or {},
    )


def unknown(command: Command | None, at: datetime, error: DeviceError) -> Receipt:
    """Sent, but neither the answer nor a reading says what became of it. Settings may be sent again."""
    return Receipt(
        command_id=command.id if command else None,
        state=ReceiptState.UNKNOWN,
        at=at,
        reason=f"{type(error).__name__}: {error}",
        retryable=True,
    )


def differing(wanted: dict[str, Any], seen: dict[str, Any]) -> NotApplied | None:
    """The error that names each setting that reads otherwise than wanted, or None."""
    wrong = [
        f"{name} reads {seen.get(name)!r}, wanted {value!r}"
        for name, value in wanted.items()
        if seen.get(name) != value
    ]
    return NotApplied("; ".join(wrong)) if wrong else None
