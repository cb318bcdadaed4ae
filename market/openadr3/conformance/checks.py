"""Every check of an OpenADR 3 VTN, in the order they are made.

Requirements are named by their path in the OpenAPI document of the version that is checked.
"""

from collections.abc import Awaitable, Callable

from market.openadr3.conformance import auth, lists, objects, privacy
from market.openadr3.conformance.bodies import KINDS
from market.openadr3.conformance.session import Session3
from vpp.domain.conformance import Check
from vpp.domain.openadr3 import OLDER_VERSION

_Run = Callable[[Session3], Awaitable[str]]
_SCHEMAS = "components.schemas"
_NEWER_ONLY = frozenset(
    (
        "auth-server",
        "list-resources",
        "active",
        "client-id",
        "object-privacy",
        "targets",
        "targets-not-by-ven",
        "notifiers",
    )
)
_OLDER_REQUIREMENTS = {
    "no-token": "paths./programs.get.responses.403",
    "bad-token": "paths./programs.get.responses.403",
    "resources": "paths./vens/{venID}/resources; components.schemas.resource",
}
"""Where 3.0.1 has it elsewhere."""
_CHECKS: tuple[tuple[str, str, str, _Run], ...] = (
    ("auth-server", "auth", "paths./auth/server.get", auth.server),
    ("token-basic", "auth", "RFC 6749, 2.3.1; securitySchemes.oAuth2ClientCredentials", auth.token_basic),
    ("token-form", "auth", "paths./auth/token.post.requestBody", auth.token_form),
    ("token-expires-in", "auth", f"{_SCHEMAS}.clientCredentialResponse.expires_in; RFC 6749, 5.1", auth.expires_in),
    ("token-wrong-secret", "auth", "paths./auth/token.post.responses.400", auth.wrong_secret),
    ("no-token", "auth", "paths./programs.get.responses.401", auth.no_token),
    ("bad-token", "auth", "paths./programs.get.responses.401", auth.bad_token),
    ("scope-programs", "programs", "paths./programs.post.security.write_programs", auth.scope_programs),
    ("scope-events", "events", "paths./events.post.security.write_events", auth.scope_events),
    *((f"list-{path}", path, f"paths./{path}.get.responses.200", lists.listing(path)) for path in KINDS),
    ("limit", "programs", "paths./programs.get.parameters: skip >= 0, 0 <= limit <= 50", lists.limit),
    ("order", "programs", "paths./programs.get.parameters.skip", lists.order),
    ("active", "events", "paths./events.get.parameters.active", lists.active),
    ("programs", "programs", f"paths./programs; {_SCHEMAS}.program", objects.programs),
    ("events", "events", f"paths./events; {_SCHEMAS}.event", objects.events),
    ("vens", "vens", f"paths./vens; {_SCHEMAS}.ven", objects.vens),
    ("resources", "resources", f"paths./resources; {_SCHEMAS}.resource", objects.resources),
    ("reports", "reports", f"paths./reports; {_SCHEMAS}.report", objects.reports),
    ("vens-by-ven", "vens", "paths./vens.post.security.write_vens", objects.own_vens),
    ("duplicate-program", "programs", "paths./programs.post.responses.409", objects.duplicate_program),
    ("duplicate-ven", "vens", "paths./vens: venName is unique", objects.duplicate_ven),
    ("unknown-id", "programs", "paths./programs/{programID}.get.responses.404", objects.unknown_id),
    ("invalid-body", "programs", "paths./programs.post.responses.400", objects.invalid_body),
    ("explicit-nulls", "programs", f"{_SCHEMAS}: nullable", objects.explicit_nulls),
    ("custom-payload", "events", f"{_SCHEMAS}.valuesMap.type", objects.custom_payload),
    ("client-id", "vens", "definition, object privacy: clientID from the token", privacy.client_stamped),
    ("object-privacy", "vens", "definition, object privacy", privacy.private),
    ("targets", "events", "definition, targets and target hiding", privacy.targets),
    ("targets-not-by-ven", "vens", "definition, targets: granted by business logic", privacy.ven_grants_nothing),
    ("notifiers", "notifiers", "paths./notifiers.get", privacy.notifiers),
    ("webhook-challenge", "subscriptions", "definition, webhooks: callback challenge", privacy.webhook),
    ("timestamps", "objects", f"{_SCHEMAS}.dateTime", objects.zoned),
    ("problems", "objects", f"{_SCHEMAS}.problem", objects.problems),
    ("json", "objects", "content.application/json", objects.json_bodies),
)


def checks_of(profile: str) -> tuple[Check[Session3], ...]:
    """Return the checks of 3.1.0 or 3.0.1."""
    if profile != OLDER_VERSION:
        return tuple(Check(*each) for each in _CHECKS)
    return tuple(
        Check(name, service, _OLDER_REQUIREMENTS.get(name, requirement), run)
        for name, service, requirement, run in _CHECKS
        if name not in _NEWER_ONLY
    )
