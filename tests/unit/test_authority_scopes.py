"""What a token allows follows role and what was asked for, and no bound is passed by it."""

import pytest

from vpp.domain.peer import PeerRole
from vpp.peering.bounded import Bounded
from vpp.peering.scopes import BL_SCOPES, VEN_SCOPES, narrowed, within_role


@pytest.mark.parametrize(
    ("role", "asked", "given"),
    [
        (PeerRole.BL, None, BL_SCOPES),
        (PeerRole.VEN, "", VEN_SCOPES),
        (PeerRole.BL, "read_all write_events", {"read_all", "write_events"}),
        (PeerRole.VEN, "openid write_reports", {"write_reports"}),
        (PeerRole.VEN, "openid profile", VEN_SCOPES),
        (PeerRole.VEN, "read_all", VEN_SCOPES),
        (PeerRole.VEN, "read_all write_reports", {"read_targets", "read_ven_objects", "write_reports"}),
        (PeerRole.VEN, "write_programs write_events", set()),
        (PeerRole.BL, "write_reports", set()),
        (PeerRole.VTN, None, set()),
    ],
)
def test_scopes_are_the_roles_narrowed_by_what_was_asked(role: PeerRole, asked: str | None, given: set[str]) -> None:
    assert narrowed(role, asked) == given


def test_a_role_never_has_more_than_its_own() -> None:
    assert within_role(PeerRole.VEN, BL_SCOPES | VEN_SCOPES) == VEN_SCOPES
    assert within_role(PeerRole.BL, BL_SCOPES | VEN_SCOPES) == BL_SCOPES


def test_a_bounded_memory_forgets_what_was_used_longest_ago() -> None:
    held: Bounded[str, int] = Bounded(2)
    held.put("a", 1)
    held.put("b", 2)
    assert held.get("a") == 1
    held.put("c", 3)
    assert (held.get("a"), held.get("b"), held.get("c"), len(held)) == (1, None, 3, 2)
