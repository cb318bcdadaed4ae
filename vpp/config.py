"""Settings from the environment, all prefixed `VPP_`; see `docs/reference/configuration.md`."""

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Everything that differs between two installations."""

    model_config = SettingsConfigDict(env_prefix="VPP_", frozen=True)

    var_dir: Path = Field(Path("var"), description="where embedded servers and process files live")
    database_url: str | None = Field(None, description="PostgreSQL address; unset starts an embedded server")
    redis_url: str | None = Field(None, description="Valkey or Redis address; unset starts an embedded server")
    clock_address: str | None = Field(
        None, description="host:port of a simulation's stepped clock; unset uses real time"
    )
    secrets_dir: Path | None = Field(None, description="folder with one file per vendor secret")
    read_interval_s: float = Field(300.0, gt=0, description="how often devices are read during an event")
    idle_read_interval_s: float = Field(600.0, gt=0, description="how often devices are read otherwise")
    collector_shards: int = Field(4, ge=1, le=1000, description="parts of the fleet that workers share reading by")
    cycle_s: float = Field(300.0, gt=0, description="length of one control cycle")
    heartbeat_s: float = Field(5.0, gt=0, description="a worker silent for three of these has died")
    metrics_port: int | None = Field(
        None, ge=1, le=65535, description="port of `/metrics` and `/healthz` of worker and gateway; unset serves none"
    )
    metrics_host: str = Field("127.0.0.1", description="address these listen on")
    dask_url: str | None = Field(
        None, description="Dask scheduler whose workers share large allocations; unset uses this machine's threads"
    )
    seed: int | None = Field(None, description="fixes random starts, for simulations; unset draws them anew")
    tenant: str = Field("default", description="the tenant whose events the gateway receives")
    openadr2_poll_s: float = Field(60.0, gt=0, description="how often the VEN polls its VTN")
    openadr2_vtn_url: str | None = Field(None, description="the utility's OpenADR 2.0b VTN")
    openadr2_ven_name: str = Field("vpp", description="our name as a VEN")
    openadr2_peer: str = Field("utility", description="our own name for that VTN; part of every event's source")
    openadr2_programs: dict[str, str] = Field(
        default_factory=dict, description="programme by market context, as JSON; a context not listed is refused"
    )
    openadr2_cert: Path | None = Field(None, description="our certificate (PEM), for TLS and signatures")
    openadr2_key: Path | None = Field(None, description="its key (PEM)")
    openadr2_ca: Path | None = Field(
        None, description="who vouches for the VTN's certificate; unset trusts the system's"
    )
    openadr2_vtn_fingerprint: str | None = Field(None, description="fingerprint the VTN's signatures must have")
    openadr2_sign: bool = Field(False, description="sign what we send")
    openadr2_opt_changes: Literal["never", "before", "always"] = Field(
        "never", description="when that VTN is told that the fleet's capability has changed since it was answered"
    )
    public_url: str | None = Field(
        None, description="where peers reach our portal and OpenADR 3 VTN; unset is where `vpp serve` listens"
    )
    openadr2_public_url: str | None = Field(
        None, description="where peers reach our OpenADR 2.0b VTN, told by `vpp peers show`"
    )
    openadr2_vtn_id: str = Field("VPP-VTN", description="our vtnID; with a capital, for some VENs refuse one without")
    openadr2_vtn_cert: Path | None = Field(
        None, description="certificate (PEM) of our 2.0b VTN, for TLS and signatures; unset serves plain HTTP"
    )
    openadr2_vtn_key: Path | None = Field(None, description="its key (PEM)")
    openadr2_vtn_ca: Path | None = Field(None, description="who vouches for VENs' certificates (PEM)")
    openadr2_vtn_require_mtls: bool = Field(
        False, description="refuse VENs without a certificate, and those whose peer names none"
    )
    openadr2_vtn_sign: bool = Field(False, description="sign every answer, also to VENs that did not ask for it")
    openadr2_vtn_require_signature: bool = Field(False, description="refuse unsigned messages of VENs")
    openadr2_vtn_poll_s: float = Field(10.0, ge=1, description="how often VENs are told to poll our VTN")
    openadr2_vtn_ven_per_s: float = Field(5.0, ge=0, description="requests a second of one VEN; 0 is no limit")
    openadr2_vtn_address_per_s: float = Field(
        2000.0, ge=0, description="requests a second from one address; 0 is no limit"
    )
    openadr2_vtn_stranger_per_s: float = Field(
        50.0, ge=0, description="requests a second from one address that name no VEN registered here; 0 is no limit"
    )
    openadr2_vtn_connections: int = Field(
        10_000, ge=1, description="connections open at our 2.0b VTN at once; fewer where open files are fewer"
    )
    openadr2_vtn_connections_per_address: int = Field(
        5_000, ge=1, description="of these from one address, unless it is a proxy named below"
    )
    openadr2_vtn_idle_s: float = Field(
        120.0, ge=1, description="how long a connection is kept on which nothing is asked; longer than a proxy keeps it"
    )
    openadr2_vtn_proxies: list[str] = Field(
        default_factory=list, description="addresses of proxies that end TLS before our VTN, as JSON"
    )
    openadr2_vtn_proxy_header: str | None = Field(
        None, description="header in which these tell the client's certificate (PEM, quoted) or its fingerprint"
    )
    openadr2_vtn_keep_days: float = Field(
        400.0, ge=2, description="how long our VTNs keep events after their end, reports of VENs and what VENs answered"
    )
    openadr2_vtn_push_public_only: bool = Field(
        False, description="push to VENs at public addresses by https only, never into private networks"
    )
    serve_connections: int = Field(
        5_000, ge=1, description="connections open at portal, API and OpenADR 3 VTN at once; fewer where open files are"
    )
    serve_connections_per_address: int = Field(
        1_000, ge=1, description="of these from one address; behind a proxy, as many as in all"
    )
    openadr3_token_s: float = Field(3600.0, ge=60, le=86_400, description="how long an access token of ours is good")
    openadr3_oauth_issuer: str | None = Field(
        None, description="an OAuth server whose access tokens are taken at our OpenADR 3 VTN beside our own (`iss`)"
    )
    openadr3_oauth_jwks_url: str | None = Field(None, description="where its signing keys are; https, or this machine")
    openadr3_oauth_token_url: str | None = Field(
        None, description="where clients get its tokens, told by `/auth/server`"
    )
    openadr3_oauth_audience: str | None = Field(None, description="`aud` its tokens must have; needed with an issuer")
    openadr3_oauth_algorithms: list[Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384"]] = (
        Field(["RS256", "ES256"], min_length=1, description="signatures taken of it, as JSON")
    )
    openadr3_oauth_client_claim: str = Field("client_id", description="the claim that names a peer by its client id")
    openadr3_oauth_scope_claim: str = Field(
        "scope", description="the claim with scopes or roles: words in a text, or a list"
    )
    openadr3_oauth_scopes: dict[str, str] = Field(
        default_factory=dict,
        description="our scopes, divided by spaces, by its scope or role, as JSON; unset takes ours as they are named",
    )
    openadr3_oauth_roles: dict[str, Literal["bl", "ven"]] = Field(
        default_factory=dict, description="role by its scope or role, as JSON; it must be the peer's"
    )
    openadr3_oauth_auto_peers: bool = Field(
        False, description="add a peer for a client id nobody knows, if its role is mapped"
    )
    openadr3_oauth_leeway_s: float = Field(30.0, ge=0, le=300, description="how far its clock may be off")
    openadr3_allow_http_callbacks: bool = Field(
        False, description="subscribers may name callbacks by plain http on this machine: for tests and trials"
    )
    openadr3_callback_networks: list[str] = Field(
        default_factory=list, description="private networks (CIDR) in which subscribers may be called back, as JSON"
    )
    openadr3_callback_ca: Path | None = Field(
        None, description="who vouches for callbacks' certificates (PEM), beside the system's"
    )
    openadr3_callback_timeout_s: float = Field(10.0, gt=0, le=30, description="for one call of a subscriber as a whole")
    mqtt_url: str | None = Field(
        None, description="MQTT broker for OpenADR 3 notifications: `mqtts://host:port`, or `mqtt://` on this machine"
    )
    mqtt_public_urls: list[str] = Field(
        default_factory=list, description="where subscribers reach it, as JSON; unset tells `VPP_MQTT_URL`"
    )
    mqtt_credentials: Path | None = Field(None, description="file with `user:password` of ours at the broker")
    mqtt_ca: Path | None = Field(None, description="who vouches for the broker's certificate; unset: the system's")
    mqtt_cert: Path | None = Field(None, description="our certificate (PEM), where the broker asks for one")
    mqtt_key: Path | None = Field(None, description="its key (PEM)")
    mqtt_version: Literal["3.1.1", "5"] = Field("5", description="version of MQTT we speak to the broker")
    mqtt_access: Literal["dynsec", "open"] = Field(
        "dynsec",
        description="`dynsec`: we keep users and rules in mosquitto's dynamic security plugin; `open`: everybody may "
        "read the broker, so that only what has no targets is published",
    )
    mqtt_prefix: str = Field("openadr3", pattern=r"^[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*$", description="begins all topics")
    message_log_days: float = Field(30.0, gt=0, description="how long messages of peers are kept")
    message_log_rows: int = Field(2_000_000, ge=1000, description="how many messages of peers are kept")
    tesla_settings_per_day: int = Field(5, ge=0, description="setting changes a plan allows a day; 0: no limit")
    tesla_readback_delay_s: float = Field(1.0, ge=0, description="wait before a Tesla setting is read back")
    adapter_urls: dict[str, str] = Field(default_factory=dict, description="vendor cloud base addresses by adapter")
