"""`vpp peers`: what it prints is what the other side needs, and JSON is nothing but JSON.

Goal: a utility or a site can be connected from the command line alone. Method: the commands run as they are on a
real PostgreSQL; issued certificates are used for a real TLS handshake.
"""

import asyncio
import json
import ssl
import stat
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.builders_peering import certificate
from tests.clock import NOON, FixedClock
from vpp.cli import run
from vpp.cli.app import console
from vpp.cli.peers_log import since_instant
from vpp.clock import SystemClock
from vpp.config import Settings
from vpp.domain.errors import InvalidRequest
from vpp.domain.peer import Direction, Protocol
from vpp.peering import OwnAuthority, SqlMessageLog, certificate_fingerprint, listening, note_standing, openadr3_url
from vpp.store.engine import Store


class Vpp:
    """The command line on one database."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def text(self, *words: str) -> str:
        code = run(["peers", *words])
        said = self._capsys.readouterr()
        assert code == 0, said.err
        return said.out

    def json(self, *words: str) -> Any:
        return json.loads(self.text(*words))

    def error(self, *words: str) -> str:
        assert run(["peers", *words]) != 0
        said = self._capsys.readouterr()
        assert said.out == ""
        return said.err


@pytest.fixture
def vpp(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    database_url: str,
    redis_url: str,
    tmp_path: Path,
) -> Vpp:
    monkeypatch.setenv("VPP_DATABASE_URL", database_url)
    monkeypatch.setenv("VPP_REDIS_URL", redis_url)
    monkeypatch.setenv("VPP_VAR_DIR", str(tmp_path))
    monkeypatch.setenv("VPP_PUBLIC_URL", "https://vpp.example/")
    monkeypatch.setattr(console, "width", 200)  # COLUMNS was read when it was made
    return Vpp(capsys)


def granted(database_url: str, redis_url: str, client_id: str, secret: str) -> bool:
    async def ask() -> bool:
        store = Store(database_url, redis_url)
        try:
            return await OwnAuthority(store, SystemClock(), Settings()).grant(client_id, secret, None) is not None
        finally:
            await store.close()

    return asyncio.run(ask())


@pytest.mark.parametrize("role", ["bl", "ven"])
def test_an_openadr3_client_gets_what_it_needs_for_a_token_until_its_secret_changes(
    vpp: Vpp, role: str, database_url: str, redis_url: str
) -> None:
    made = vpp.json("add", "--protocol", "openadr3", "--role", role, "site-1", "--target", "north", "--groups", "a")
    assert made["url"] == "https://vpp.example/openadr3/3.1.0"
    assert made["token_url"] == "https://vpp.example/openadr3/3.1.0/auth/token"
    assert (made["granted_targets"], made["groups"]) == (["north"], ["a"])
    assert granted(database_url, redis_url, made["client_id"], made["client_secret"])
    fresh = vpp.json("rotate-secret", "site-1")
    assert fresh["client_id"] == made["client_id"]
    assert not granted(database_url, redis_url, made["client_id"], made["client_secret"])
    assert granted(database_url, redis_url, made["client_id"], fresh["client_secret"])
    assert "client_secret" not in vpp.json("show", "site-1")
    assert vpp.text("revoke", "site-1") == "site-1: revoked\n"
    assert not granted(database_url, redis_url, made["client_id"], fresh["client_secret"])


def test_an_openadr2_ven_gets_its_ids_the_address_and_what_to_do(vpp: Vpp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VPP_OPENADR2_PUBLIC_URL", "https://vtn.example:8443")
    made = vpp.json("add", "--protocol", "openadr2", "--role", "ven", "--ven-id", "VEN7", "site-2")
    assert (made["ven_id"], made["vtn_id"]) == ("VEN7", "VPP-VTN")
    assert made["url"] == "https://vtn.example:8443/OpenADR2/Simple/2.0b"
    assert made["services"]["EiEvent"] == "https://vtn.example:8443/OpenADR2/Simple/2.0b/EiEvent"
    assert "VEN7" in made["how"][0]
    assert made["fingerprint"] is None
    assert "client_secret" not in made


def test_without_a_setting_the_address_is_where_the_processes_listen(vpp: Vpp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VPP_PUBLIC_URL")
    made = vpp.json("add", "a", "--protocol", "openadr3", "--role", "ven")
    assert made["url"] == "http://127.0.0.1:8000/openadr3/3.1.0"
    listens = listening(Settings(), "public_url", host="0.0.0.0", port=8123)
    listening(Settings(), "openadr2_public_url", host="::", port=8124, tls=True)
    assert openadr3_url(listens) == "http://127.0.0.1:8123/openadr3/3.1.0"
    assert vpp.json("show", "a")["url"] == "http://127.0.0.1:8123/openadr3/3.1.0"
    made = vpp.json("add", "b", "--protocol", "openadr2", "--role", "ven")
    assert made["url"] == "https://[::1]:8124/OpenADR2/Simple/2.0b"


def shown_files(shown: dict[str, Any]) -> list[str]:
    return [shown["config"][key] for key in ("cert_name", "key_name", "ca_name")]


def test_a_database_without_our_tables_is_said_to_need_them(
    vpp: Vpp, monkeypatch: pytest.MonkeyPatch, empty_database_url: str
) -> None:
    monkeypatch.setenv("VPP_DATABASE_URL", empty_database_url)
    assert "run vpp migrate" in vpp.error("list")


def test_a_utilitys_vtn_is_taken_with_programmes_and_names_of_files(
    vpp: Vpp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vpp.json(
        "add", "--protocol", "openadr2", "--role", "vtn", "utility", "--url", "https://vtn.example/OpenADR2/Simple/2.0b",
        "--ven-name", "our-vpp", "--cert", "utility.pem", "--key", "utility-key.pem", "--ca", "utility-ca.pem",
        "--vtn-fingerprint", "aa:bb:cc:dd:ee:ff:00:11:22:33", "--program", "http://utility.example/peak?x=1=elrp",
        "--forward", "--sign", "--poll-s", "30", "--config", "opt_changes=before", "--config", 'extra={"a": [1]}',
    )  # fmt: skip
    shown = vpp.json("show", "utility")
    assert shown["fingerprint"] == "AA:BB:CC:DD:EE:FF:00:11:22:33"
    assert shown["config"] == {
        "ven_name": "our-vpp", "programs": {"http://utility.example/peak?x=1": "elrp"}, "forward": True, "sign": True,
        "poll_s": 30.0, "cert_name": "utility.pem", "key_name": "utility-key.pem", "ca_name": "utility-ca.pem",
        "opt_changes": "before", "extra": {"a": [1]},
    }  # fmt: skip
    assert [step.partition(":")[0].split()[1] for step in shown["how"][:3]] == shown_files(shown)
    monkeypatch.setenv("VPP_SECRETS_DIR", str(tmp_path))
    pem, _ = certificate("our-vpp")
    for name in shown_files(shown):
        (tmp_path / name).write_bytes(pem)
    shown = vpp.json("show", "utility")
    assert shown["our_fingerprint"] == certificate_fingerprint(pem)
    ours = shown["our_fingerprint"]
    assert shown["how"][0] == f"tell the utility our VEN name our-vpp and the fingerprint of our certificate, {ours}"
    vpp.json(
        "add", "--protocol", "openadr3", "--role", "vtn", "utility", "--url", "https://vtn.example/openadr3/3.1.0",
        "--client-id", "us", "--client-secret-name", "utility3_secret", "--target", "north",
    )  # fmt: skip
    assert "give --protocol and --role" in vpp.error("show", "utility")
    assert vpp.json("show", "utility", "--protocol", "openadr3")["config"]["targets"] == ["north"]
    path = tmp_path / "peers.json"
    assert vpp.text("list", "--json", str(path)) == ""
    assert [row["protocol"] for row in json.loads(path.read_text())] == ["openadr2", "openadr3"]
    assert "utility" in vpp.text("list")


MISTAKES = [
    (["--role", "bl", "--protocol", "openadr2"], "role"),
    (["--role", "vtn", "--protocol", "openadr3"], "url"),
    (["--role", "vtn", "--protocol", "openadr2", "--url", "http://vtn.example"], "url"),
    (
        ["--role", "vtn", "--protocol", "openadr2", "--url", "https://v.example", "--key", "/etc/key.pem"],
        "key_name",
    ),
    (["--role", "ven", "--protocol", "openadr2", "--cert", "/nowhere.pem"], "--cert"),
    (["--role", "ven", "--protocol", "openadr3", "--program", "x"], "--program"),
    (["--role", "ven", "--protocol", "openadr3", "--config", "x={"], "--config"),
    (["--role", "ven", "--protocol", "openadr3", "--config", "password=hunter2"], "password"),
    (["--role", "ven", "--protocol", "openadr2", "--issue-cert", ".", "--key-type", "dsa"], "key type"),
    (["--role", "ven", "--protocol", "openadr4"], "openadr4"),
]


def test_a_mistake_is_one_line_that_names_it(vpp: Vpp) -> None:
    for words, named in MISTAKES:
        said = vpp.error("add", "peer", *words)
        assert named in said, words
        assert "hunter2" not in said
        assert "Traceback" not in said
    assert vpp.json("list", "--json", "-") == []


def test_what_is_not_there_or_was_revoked_is_said(vpp: Vpp) -> None:
    assert "no peers yet" in vpp.text("list")
    assert "no peer nobody" in vpp.error("show", "nobody")
    vpp.json("add", "one", "--protocol", "openadr3", "--role", "ven")
    vpp.text("revoke", "one", "--json", "-")
    assert "no peer one" in vpp.error("revoke", "one")
    assert vpp.json("show", "one")["revoked_at"] is not None
    again = vpp.json("add", "one", "--protocol", "openadr3", "--role", "ven")
    assert vpp.json("show", "one")["id"] == again["id"]
    assert len(vpp.json("list", "--revoked", "--json", "-")) == 2


def test_what_is_given_of_a_peer_is_changed_and_the_rest_stays(vpp: Vpp, tmp_path: Path) -> None:
    made = vpp.json(
        "add", "utility", "--protocol", "openadr2", "--role", "vtn", "--url", "https://old.example", "--sign",
        "--ven-name", "us", "--cert", "a.pem", "--key", "k.pem", "--poll-s", "30", "--group", "a",
        "--program", "peak=elrp", "--vtn-id", "V",
    )  # fmt: skip
    changed = vpp.json(
        "change", "utility", "--url", "https://new.example", "--no-sign", "--cert", "b.pem", "--config", "poll_s=null",
        "--group", "b", "--group", "c", "--program", "off=base", "--ven-name", "", "--vtn-id", "", "--forward",
    )  # fmt: skip
    shown = vpp.json("show", "utility")
    assert changed == {key: shown[key] for key in changed}
    assert (changed["id"], changed["url"], changed["groups"]) == (made["id"], "https://new.example", ["b", "c"])
    own = {"sign": False, "cert_name": "b.pem", "key_name": "k.pem", "programs": {"off": "base"}, "forward": True}
    assert changed["config"] == own
    assert changed["vtn_id"] is None
    vpp.json("add", "utility", "--protocol", "openadr2", "--role", "ven")
    pem, _ = certificate("site")
    (tmp_path / "site.pem").write_bytes(pem)
    words = ("change", "utility", "--role", "ven")
    assert vpp.json(*words, "--cert", str(tmp_path / "site.pem"))["fingerprint"] == certificate_fingerprint(pem)
    assert vpp.json(*words, "--cert", "")["fingerprint"] is None
    mistakes = [
        (["utility", "--url", "https://v.example"], "give --protocol and --role"),
        (["nobody", "--url", "https://v.example"], "no peer nobody"),
        (["utility", "--protocol", "openadr2", "--role", "vtn"], "what is to change"),
        (["utility", "--role", "vtn", "--url", "http://v.example"], "url"),
        (["utility", "--role", "vtn", "--url", ""], "url"),
        (["utility", "--role", "ven", "--client-id", "c"], "client_id"),
        (["utility", "--role", "ven", "--config", "password=hunter2"], "password"),
    ]
    for given, named in mistakes:
        said = vpp.error("change", *given)
        assert named in said, given
        assert "hunter2" not in said
    assert vpp.json("show", "utility", "--role", "vtn")["config"] == changed["config"]


def test_a_vtn_is_shown_with_since_when_it_is_connected_or_why_not(vpp: Vpp, database_url: str, redis_url: str) -> None:
    made = vpp.json("add", "utility", "--protocol", "openadr2", "--role", "vtn", "--url", "https://vtn.example")
    assert "in force" in vpp.text("list")

    async def note(trouble: str | None) -> None:
        store = Store(database_url, redis_url)
        await note_standing(store, made["id"], trouble, at=NOON)
        await store.close()

    asyncio.run(note(None))
    assert f"connected since {NOON:%Y-%m-%d %H:%M:%S}" in vpp.text("list")
    asyncio.run(note("not reached [red]at all"))
    assert "not reached [red]at all" in vpp.text("list")
    for shown in (vpp.json("show", "utility"), *vpp.json("list", "--json", "-")):
        assert shown["trouble"] == "not reached [red]at all"
        assert datetime.fromisoformat(shown["stands_since_at"]) == NOON


@pytest.mark.parametrize("kind", ["ec", "rsa"])
def test_issued_certificates_shake_hands_and_their_keys_are_the_owners_only(
    vpp: Vpp, tmp_path: Path, kind: str
) -> None:
    folder = str(tmp_path / "certs")
    made = vpp.json(
        "add", "site", "--protocol", "openadr2", "--role", "ven", "--issue-cert", folder, "--key-type", kind
    )  # fmt: skip
    files = {name: Path(path) for name, path in made["files"].items()}
    assert set(files) == {"ca", "ca_key", "vtn", "vtn_key", "site", "site_key"}
    assert {stat.S_IMODE(path.stat().st_mode) for name, path in files.items() if name.endswith("key")} == {0o600}
    seen = asyncio.run(_handshake(files))
    assert certificate_fingerprint(seen) == made["fingerprint"]
    second = vpp.json("add", "other", "--protocol", "openadr2", "--role", "ven", "--issue-cert", folder)
    assert set(second["files"]) == {"other", "other_key"}
    asyncio.run(
        _handshake(files | {"site": Path(second["files"]["other"]), "site_key": Path(second["files"]["other_key"])})
    )
    assert "named site" in vpp.error("add", "site", "--protocol", "openadr2", "--role", "ven")
    assert "without site.pem" in vpp.error(
        "add", "site", "--protocol", "openadr2", "--role", "ven", "--issue-cert", folder
    )


async def _handshake(files: dict[str, Path]) -> bytes:
    """Connect as the site to a server that asks for a certificate; returns the one it saw."""
    server_side = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(files["ca"]))
    server_side.load_cert_chain(files["vtn"], files["vtn_key"])
    server_side.verify_mode = ssl.CERT_REQUIRED
    client_side = ssl.create_default_context(cafile=str(files["ca"]))
    client_side.load_cert_chain(files["site"], files["site_key"])
    seen: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.set_result(writer.get_extra_info("ssl_object").getpeercert(binary_form=True))
        await reader.read()
        writer.close()

    async with asyncio.timeout(10), await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server_side) as server:
        port = server.sockets[0].getsockname()[1]
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client_side)
        found = await seen
        writer.close()
        await writer.wait_closed()
    return found


def test_the_log_is_shown_by_peer_and_text_and_as_json(vpp: Vpp, database_url: str, redis_url: str) -> None:
    made = vpp.json("add", "site", "--protocol", "openadr2", "--role", "ven", "--ven-id", "VEN1")

    async def write() -> None:
        store = Store(database_url, redis_url)
        log = SqlMessageLog(store, FixedClock(SystemClock().now()))
        for kind, peer in (("oadrPoll", "VEN1"), ("oadrPoll", made["id"]), ("oadrCreateOpt", "VEN2")):
            log.note(
                protocol=Protocol.OPENADR2, direction=Direction.IN, kind=kind, status="200", peer=peer,
                summary="\x1b[2Jcleared", body="<password>hunter2</password>",
            )  # fmt: skip
        await log.flush()
        await store.close()

    asyncio.run(write())
    assert [row["kind"] for row in vpp.json("log", "--json", "-")] == ["oadrPoll", "oadrPoll", "oadrCreateOpt"]
    assert [row["peer"] for row in vpp.json("log", "--peer", "site", "--json", "-")] == ["VEN1", made["id"]]
    assert vpp.text("log", "--kind", "oadrPoll").count(" site oadrPoll 200") == 2, "by our name, whatever id it used"
    text = vpp.text("log", "--grep", "createopt", "--bodies")
    assert "VEN2 oadrCreateOpt 200" in text
    assert "<password>***</password>" in text
    assert "\x1b" not in text
    assert vpp.text("log", "--since", "2020-01-01T00:00:00Z", "--kind", "oadrReg") == ""
    assert "--follow" in vpp.error("log", "--follow", "--json", "-")
    assert vpp.json("show", "site")["last_heard_at"] is not None


@pytest.mark.parametrize("text", ["yesterday", "5", "2026-08-19T16:00:00", "7w", ""])
def test_a_time_that_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="--since"):
        since_instant(text, SystemClock().now())
