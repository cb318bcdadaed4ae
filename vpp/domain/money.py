"""Money: Decimal with a currency for prices, integer cents once it is owed."""

from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction

from vpp.domain.errors import InvalidRequest


def cents_half_up(amount: Decimal) -> int:
    """Round an amount in currency units to whole cents, half away from zero.

    This is the one rounding of a statement line; programmes that round otherwise name their own.
    """
    return int((amount * 100).quantize(Decimal(1), rounding=ROUND_HALF_UP))


def split_cents(total_cents: int, weights: Sequence[Decimal | int]) -> list[int]:
    """Split cents in proportion to weights by largest remainder; ties go to the lower index.

    Sign-symmetric, sums exactly to `total_cents`, and a zero weight never gets a cent.

    Raises:
        InvalidRequest: a weight is negative, or all are zero while there is something to split.
    """
    if any(weight < 0 for weight in weights):
        raise InvalidRequest("weights", list(weights), "weights of zero or more")
    whole = sum(Fraction(weight) for weight in weights)
    if whole == 0:
        if total_cents == 0:
            return [0] * len(weights)
        raise InvalidRequest("weights", list(weights), "at least one weight above zero")
    sign, size = (-1, -total_cents) if total_cents < 0 else (1, total_cents)
    exact = [Fraction(weight) * size / whole for weight in weights]
    shares = [int(part) for part in exact]
    by_remainder = sorted(range(len(exact)), key=lambda i: (shares[i] - exact[i], i))
    for i in by_remainder[: size - sum(shares)]:
        shares[i] += 1
    return [sign * share for share in shares]
