"""What a token allows at our OpenADR 3 VTN, by role. Called by `authority` and `external_tokens`.

The names are the definition's (OpenADR 3.1.0 YAML, securitySchemes, and `read_bl`, which its notifier paths ask
for). 3.0.1 knows `read_all` for both roles: a VEN that asks for it gets what a VEN may read.
"""

from vpp.domain.peer import PeerRole

BL_SCOPES = frozenset({"read_all", "read_bl", "write_programs", "write_events", "write_subscriptions", "write_vens"})
VEN_SCOPES = frozenset({"read_targets", "read_ven_objects", "write_reports", "write_subscriptions", "write_vens"})
KNOWN_SCOPES = BL_SCOPES | VEN_SCOPES
_READ_ALL_OF_A_VEN = frozenset({"read_targets", "read_ven_objects"})
_ASKED_MAX_CHARS = 2000


def scopes_of(role: PeerRole) -> frozenset[str]:
    """Everything a role may do; nothing for one that does not come to us."""
    return {PeerRole.BL: BL_SCOPES, PeerRole.VEN: VEN_SCOPES}.get(role, frozenset())


def narrowed(role: PeerRole, asked: str | None) -> frozenset[str]:
    """Return what a role gets that asks for `asked`, words divided by spaces.

    Words nobody here knows are ignored (RFC 6749, 3.3); where there is no other, the role's whole set is given.
    What is known and not for the role is left out. A VEN that asks for `read_all` and nothing else gets its whole
    set: VENs of 3.0.1 that write reports all the same send just that (oadr30-ven has it in its code).
    """
    whole = scopes_of(role)
    wanted = frozenset((asked or "")[:_ASKED_MAX_CHARS].split()) & KNOWN_SCOPES
    if role is PeerRole.VEN and wanted == {"read_all"}:
        return whole
    return within_role(role, wanted) if wanted else whole


def within_role(role: PeerRole, scopes: frozenset[str]) -> frozenset[str]:
    """What of `scopes` a role may have."""
    if role is PeerRole.VEN and "read_all" in scopes:
        scopes |= _READ_ALL_OF_A_VEN
    return scopes & scopes_of(role)
