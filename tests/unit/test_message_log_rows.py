"""The message log holds what strangers say within bounds, however they vary it."""

from datetime import timedelta

from tests.clock import NOON
from vpp.domain.peer import Direction, Protocol
from vpp.peering.log_rows import LONGEST, Coalescer, LogRow, Noted


def noted(number: int, *, peer: str | None = None, status: str = "463", minute: int = 0) -> Noted:
    return Noted(
        NOON + timedelta(minutes=minute), Protocol.OPENADR2, Direction.IN, peer, "unread", status,
        f"summary {number}", b"x" * 100, 100,
    )  # fmt: skip


def _count(rows: list[LogRow]) -> tuple[int, int]:
    return len(rows), sum(row.repeats for row in rows)


def test_strangers_fill_so_many_rows_an_hour_and_are_counted_beyond_that() -> None:
    coalescer = Coalescer(strangers_max=10)
    rows = coalescer.take([noted(number, status=("463", "200")[number % 2]) for number in range(500)])
    assert _count(rows) == (12, 500)
    assert {row.body for row in rows[10:]} == {""}
    assert len(coalescer.take([noted(n, peer="known") for n in range(20)])) == 20
    assert coalescer.take([noted(1000)]) == []
    later = int(LONGEST.total_seconds() // 60)
    assert _count(coalescer.take([noted(n, minute=later) for n in range(5)])) == (5, 5)


def test_kinds_a_stranger_makes_up_take_no_more_rows_either() -> None:
    coalescer = Coalescer(strangers_max=0)
    rows = coalescer.take([noted(number, status=str(number)) for number in range(1000)])
    assert _count(rows) == (201, 1000)
