"""The tree of errors. Expected outcomes are values (see `outcome`); these are broken promises.

VppError
├── InvalidRequest          the caller's input is wrong: names field, value and what is allowed
├── NotFound
├── Conflict                the request contradicts what is already recorded
├── NotReady                a precondition is missing (no telemetry, no server, no credentials)
└── DeviceError             `retryable`: may be tried again; `safe_to_repeat`: cannot act twice
    ├── Unreachable         offline or asleep; nothing was sent
    ├── TimedOut            no answer; `sent` tells whether the device may have acted
    ├── RateLimited         the vendor asks us to wait until `retry_at`
    ├── AuthFailed          credentials expired, revoked or short of a scope
    ├── Rejected            the device or vendor refused the command
    ├── OutOfRange          the value is outside what the device accepts
    ├── NotApplied          accepted, but reading it back shows another value
    ├── Busy                another controller holds the device (storm mode, grid services)
    ├── Unsupported         the device declares no such capability
    └── ProtocolError       the answer is not what the protocol promises
"""

from datetime import datetime


class VppError(Exception):
    """Base of every error this service raises on purpose."""


class InvalidRequest(VppError):
    """Input that cannot be accepted.

    Args:
        field: the field's name as the caller wrote it.
        value: what was given.
        allowed: what would be right, in words.
    """

    def __init__(self, field: str, value: object, allowed: str) -> None:
        super().__init__(f"{field}: {value!r} is not allowed; expected {allowed}")
        self.field = field
        self.value = value
        self.allowed = allowed


class NotFound(VppError):
    """The named thing does not exist, or not for this tenant."""


class Conflict(VppError):
    """The request contradicts what is already recorded."""


class NotReady(VppError):
    """Something this needs is not there: say what and how to get it."""


class PeerError(VppError):
    """A utility's server did not do what was asked."""


class PeerUnreachable(PeerError):
    """No usable answer: not reached, too late, or not what the protocol promises.

    `retry_after_s` is set where the peer asks to be left alone for so long [s].
    """

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class PeerRefused(PeerError):
    """The server answered with an error code of its protocol."""

    def __init__(self, message: str, *, code: int) -> None:
        super().__init__(message)
        self.code = code


class CallerForbidden(VppError):
    """The caller showed a certificate that is not that of the party it speaks for."""


class RegistrationLost(PeerError):
    """The server no longer knows us and asks us to register anew."""


class DeviceError(VppError):
    """A device or vendor cloud did not do what was asked."""

    retryable = False
    safe_to_repeat = True


class Unreachable(DeviceError):
    """No connection: nothing was sent."""

    retryable = True


class TimedOut(DeviceError):
    """No answer within the deadline."""

    retryable = True

    def __init__(self, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.sent = sent
        self.safe_to_repeat = not sent


class RateLimited(DeviceError):
    """The vendor asks us to wait."""

    retryable = True

    def __init__(self, message: str, *, retry_at: datetime | None = None) -> None:
        super().__init__(message)
        self.retry_at = retry_at


class AuthFailed(DeviceError):
    """Credentials expired, revoked or short of a scope."""


class Rejected(DeviceError):
    """The device or vendor refused the command."""


class OutOfRange(DeviceError):
    """The value is outside what the device accepts."""


class NotApplied(DeviceError):
    """Accepted, but reading it back shows another value."""

    retryable = True


class Busy(DeviceError):
    """Another controller holds the device."""


class Unsupported(DeviceError):
    """The device declares no such capability."""


class ProtocolError(DeviceError):
    """The answer is not what the protocol promises."""
