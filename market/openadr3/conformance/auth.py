"""Checks of tokens and scopes. Listed in `checks`."""

from market.openadr3.conformance.bodies import event, program
from market.openadr3.conformance.session import Session3
from vpp.domain.conformance import ClientCredential, Failed, Skipped


async def server(session: Session3) -> str:
    """It says where tokens are had, to whoever asks."""
    if session.is_older:
        raise Skipped("3.0.1 has no /auth/server")
    told = (await session.send("GET", "/auth/server")).expect(200)
    url = told.get("tokenURL") if isinstance(told, dict) else None
    if not isinstance(url, str) or not url:
        raise Failed("the answer has no tokenURL")
    return f"tokenURL {url}"


async def token_basic(session: Session3) -> str:
    """A client shows its secret by HTTP Basic, as RFC 6749 asks of every server."""
    return await _token(session, as_form=False)


async def token_form(session: Session3) -> str:
    """A client shows its secret in the form, as OpenADR's document has it."""
    return await _token(session, as_form=True)


async def expires_in(session: Session3) -> str:
    """It says how long a token is good."""
    answer = await session.token(_anybody(session), as_form=True)
    if answer.status != 200:
        answer = await session.token(_anybody(session), as_form=False)
    told = answer.expect(200)
    found = told.get("expires_in") if isinstance(told, dict) else None
    if not isinstance(found, (int, float)) or isinstance(found, bool) or found <= 0:
        raise Failed(f"expires_in is {'missing' if found is None else repr(found)}")
    return f"{found:g} s"


async def wrong_secret(session: Session3) -> str:
    """A wrong secret gets no token."""
    wrong = ClientCredential(_anybody(session).client_id, "conformance-wrong-secret")
    answer = await session.token(wrong, as_form=True)
    answer.expect(400, 401, *((403,) if session.is_older else ()))
    return f"refused: {answer.brief}"


async def no_token(session: Session3) -> str:
    """Without a token nothing is shown."""
    answer = await session.send("GET", "/programs")
    answer.expect(401, *((403,) if session.is_older else ()))
    return f"refused: {answer.brief}"


async def bad_token(session: Session3) -> str:
    """A made-up token is none."""
    answer = await session.send("GET", "/programs", token="conformance.made.up")  # noqa: S106  (made up)
    answer.expect(401, 403)
    return f"refused: {answer.brief}"


async def scope_programs(session: Session3) -> str:
    """A VEN writes no programmes."""
    ven = await session.ven()
    answer = await ven.create("/programs", program(session, "scope"))
    answer.expect(403)
    return f"refused: {answer.brief}"


async def scope_events(session: Session3) -> str:
    """A VEN writes no events."""
    ven = await session.ven()
    answer = await ven.create("/events", event(session, "conformance-none"))
    answer.expect(403)
    return f"refused: {answer.brief}"


def _anybody(session: Session3) -> ClientCredential:
    found = session.vtn.bl or session.vtn.ven
    if found is None:
        raise Skipped("needs credentials: --client-id and --client-secret, or --bl-client-id and --bl-client-secret")
    return found


async def _token(session: Session3, *, as_form: bool) -> str:
    answer = await session.token(_anybody(session), as_form=as_form)
    if answer.status == 501:
        raise Skipped("it issues no tokens of its own")
    told = answer.expect(200)
    if not isinstance(told, dict) or not isinstance(told.get("access_token"), str):
        raise Failed("the answer has no access_token")
    if str(told.get("token_type", "")).lower() != "bearer":
        raise Failed(f"token_type is {told.get('token_type')!r}, not Bearer")
    return "a bearer token"
