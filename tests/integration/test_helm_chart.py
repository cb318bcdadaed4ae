"""The chart lints, renders to manifests Kubernetes' schema accepts, and refuses wrong values by name.

By Helm's own SDK, offline. What a cluster would do with the manifests is not shown here.
"""

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import helm_python as helm
import kubernetes_validate
import pytest
import yaml
from distributed.cli import dask_scheduler, dask_worker

from vpp.config import Settings

CHART = Path(__file__).parents[2] / "helm" / "vpp"
OLDEST, NEWEST = "1.30", kubernetes_validate.latest_version()

GATEWAY: dict[str, Any] = {
    "gateway": {
        "enabled": True,
        "vtnUrl": "https://vtn.utility.example/OpenADR2/Simple/2.0b",
        "programs": {"http://utility.example/elrp": "elrp"},
        "sign": True,
        "vtnFingerprint": "00:11:22:33:44:55:66:77:88:99",
        "certificate": {"existingSecret": "ven-certificate", "caKey": "ca.crt"},
    }
}
EVERYTHING: dict[str, Any] = GATEWAY | {
    "nameOverride": "fleet",
    "image": {"repository": "registry.example.com:5000/team/vpp", "tag": "1.2.3", "pullSecrets": ["pull"]},
    "vendors": {"existingSecret": "vpp-vendors"},
    "settings": {"tenant": "west", "cycleS": 60.5, "adapterUrls": {"tesla": "https://fleet-api.example.com"}},
    "logLevel": "DEBUG",
    "serve": {"replicas": 3, "port": 9000, "forwardedAllowIps": "*", "podAnnotations": {"scrape": "true"}},
    "work": {"replicas": 5},
    "service": {"type": "LoadBalancer", "port": 443, "annotations": {"a": "b"}},
    "ingress": {
        "enabled": True, "className": "nginx", "host": "vpp.example.com", "tlsSecret": "tls", "annotations": {"a": "b"},
    },
    "serviceAccount": {"create": True, "annotations": {"a": "b"}},
    "podDisruptionBudget": {"maxUnavailable": "50%"},
    "networkPolicy": {
        "enabled": True,
        "ingressFrom": [{"namespaceSelector": {"matchLabels": {"name": "ingress"}}}],
        "egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}],
    },
    "podLabels": {"team": "grid"},
    "nodeSelector": {"disk": "ssd"},
    "tolerations": [{"key": "grid", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
}  # fmt: skip
LITTLE: dict[str, Any] = {
    "migrate": {"enabled": False},
    "serviceAccount": {"create": False},
    "podDisruptionBudget": {"enabled": False},
    "networkPolicy": {"enabled": True},
}
DASK: dict[str, Any] = {
    "vendors": {"existingSecret": "vpp-vendors"},
    "networkPolicy": {"enabled": True, "egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}]},
    "dask": {"enabled": True, "port": 9786, "workerPort": 9788, "worker": {"replicas": 3, "threads": 2}},
}
VTN: dict[str, Any] = {
    "settings": {"publicUrl": "https://vpp.example.com"},
    "mqtt": {"url": "mqtts://broker:8883", "publicUrls": ["mqtts://mqtt.example.com:8883"], "credentialsKey": "mqtt"},
    "vendors": {"existingSecret": "vpp-vendors"},
    "gateway": {"enabled": True},
    "openadr2Vtn": {
        "enabled": True, "port": 9443, "vtnId": "West-VTN", "pollS": 20, "requireMtls": True, "sign": True,
        "publicUrl": "https://openadr.example.com/OpenADR2/Simple/2.0b",
        "certificate": {"existingSecret": "vtn-certificate", "caKey": "ca.crt"},
        "service": {"type": "LoadBalancer", "port": 8443, "annotations": {"a": "b"}},
    },
    "networkPolicy": {"enabled": True, "openadr2From": [{"ipBlock": {"cidr": "198.51.100.0/24"}}]},
}  # fmt: skip
VARIANTS = {"defaults": {}, "gateway": GATEWAY, "vtn": VTN, "everything": EVERYTHING, "little": LITTLE, "dask": DASK}


@pytest.fixture(scope="module")
def chart() -> Iterator[helm.Chart]:
    with helm.Chart.load(CHART) as loaded:
        yield loaded


def _manifests(chart: helm.Chart, values: dict[str, Any], **options: Any) -> list[dict[str, Any]]:
    chart.validate_schema(values)
    rendered = chart.render(values, name="demo", namespace="prod", **options)
    texts = [text for name, text in sorted(rendered.items()) if name.endswith(".yaml")]
    return [one for text in texts for one in yaml.safe_load_all(text) if one]


def _of(manifests: list[dict[str, Any]], kind: str, name: str = "") -> dict[str, Any]:
    return next(m for m in manifests if m["kind"] == kind and m["metadata"]["name"].endswith(name))


def _pods(manifests: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Pod templates by role."""
    templates = [m["spec"]["template"] for m in manifests if m["kind"] in ("Deployment", "Job")]
    return {t["metadata"]["labels"]["app.kubernetes.io/component"]: t for t in templates}


@pytest.mark.parametrize("values", VARIANTS.values(), ids=VARIANTS)
def test_the_linter_has_nothing_to_say(values: dict[str, Any]) -> None:
    report = helm.lint(CHART, values, strict=True, kube_version=f"v{OLDEST}.0")
    assert not report["errors"]
    assert [m["error"] for m in report["messages"]] == ["icon is recommended"]


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("values", VARIANTS.values(), ids=VARIANTS)
def test_every_manifest_is_one_kubernetes_knows_to_the_last_field(
    chart: helm.Chart, values: dict[str, Any], version: str
) -> None:
    manifests = _manifests(chart, values)
    assert manifests
    for manifest in manifests:
        kubernetes_validate.validate(manifest, version, strict=True)


def test_the_check_sees_a_field_kubernetes_does_not_know(chart: helm.Chart) -> None:
    service = _of(_manifests(chart, {}), "Service")
    service["spec"]["portts"] = []
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(service, NEWEST, strict=True)


@pytest.mark.parametrize("values", VARIANTS.values(), ids=VARIANTS)
def test_every_setting_we_render_exists_and_takes_the_value(
    chart: helm.Chart, values: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    manifests = _manifests(chart, values)
    given = dict(_of(manifests, "ConfigMap")["data"])
    for pod in _pods(manifests).values():
        for entry in pod["spec"]["containers"][0]["env"]:
            given.setdefault(entry["name"], entry.get("value", "from-a-secret"))
    ours = {name: value for name, value in given.items() if name.startswith("VPP_")}
    known = {f"VPP_{name}".upper() for name in Settings.model_fields}
    assert ours.keys() <= known
    for name, value in ours.items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert settings.database_url == "from-a-secret"
    if values is EVERYTHING:
        assert settings.tenant == "west"
        assert settings.cycle_s == 60.5
        assert settings.adapter_urls == {"tesla": "https://fleet-api.example.com"}
        assert settings.openadr2_programs == {"http://utility.example/elrp": "elrp"}
        assert settings.openadr2_sign
        assert settings.openadr2_ca == Path("/etc/vpp/openadr2/ca.crt")


def test_each_role_has_its_deployment_and_its_command(chart: helm.Chart) -> None:
    pods = _pods(_manifests(chart, EVERYTHING))
    arguments = {role: pod["spec"]["containers"][0]["args"] for role, pod in pods.items()}
    assert arguments == {
        "serve": ["--log-level", "DEBUG", "serve", "--host", "0.0.0.0", "--port", "9000"],
        "work": ["--log-level", "DEBUG", "work"],
        "gateway": ["--log-level", "DEBUG", "gateway"],
        "migrate": ["migrate"],
    }
    images = {pod["spec"]["containers"][0]["image"] for pod in pods.values()}
    assert images == {"registry.example.com:5000/team/vpp:1.2.3"}


def test_a_scheduler_and_workers_of_dask_run_from_our_image_if_they_are_asked_for(chart: helm.Chart) -> None:
    assert not [m for m in _manifests(chart, EVERYTHING) if "dask" in m["metadata"]["name"]]
    manifests = _manifests(chart, DASK)
    pods = _pods(manifests)
    containers = {role: pods[role]["spec"]["containers"][0] for role in ("work", "dask-scheduler", "dask-worker")}
    assert len({container["image"] for container in containers.values()}) == 1
    assert [container["command"] for container in containers.values()] == [["vpp"], ["dask"], ["dask"]]
    assert _of(manifests, "Deployment", "-dask-scheduler")["spec"]["replicas"] == 1
    assert _of(manifests, "Deployment", "-dask-worker")["spec"]["replicas"] == 3
    command, *rest = containers["dask-scheduler"]["args"]
    given = dask_scheduler.main.make_context(command, rest).params
    assert (given["port"], given["dashboard"]) == ("9786", False)
    command, *rest = containers["dask-worker"]["args"]
    given = dask_worker.main.make_context(command, rest).params
    assert (given["scheduler"], given["worker_port"], given["nthreads"]) == ("tcp://demo-vpp-dask:9786", "9788", 2)
    assert not given["nanny"]
    (preload,) = given["preload"]
    assert callable(importlib.import_module(preload).dask_setup)


def test_who_allocates_is_told_where_the_scheduler_is(chart: helm.Chart) -> None:
    assert "VPP_DASK_URL" not in _of(_manifests(chart, {}), "ConfigMap")["data"]
    manifests = _manifests(chart, DASK)
    assert _of(manifests, "ConfigMap")["data"]["VPP_DASK_URL"] == "tcp://demo-vpp-dask:9786"
    service = _of(manifests, "Service", "demo-vpp-dask")["spec"]
    assert service["ports"][0]["port"] == 9786
    scheduler = _pods(manifests)["dask-scheduler"]
    assert service["selector"].items() <= scheduler["metadata"]["labels"].items()
    assert scheduler["spec"]["containers"][0]["ports"] == [{"name": "dask", "containerPort": 9786}]
    for role in ("work", "serve"):
        assert {"configMapRef": {"name": "demo-vpp"}} in _pods(manifests)[role]["spec"]["containers"][0]["envFrom"]


def test_what_runs_whatever_it_is_sent_gets_no_secret_and_is_reached_by_ours_only(chart: helm.Chart) -> None:
    manifests = _manifests(chart, {**DASK, "networkPolicy": {"enabled": False}})
    pods = _pods(manifests)
    for role, ours in {
        "dask-scheduler": {"work", "serve", "dask-worker"}, "dask-worker": {"dask-scheduler", "dask-worker"},
    }.items():  # fmt: skip
        spec = pods[role]["spec"]
        assert "envFrom" not in spec["containers"][0]
        assert all("valueFrom" not in entry for entry in spec["containers"][0]["env"])
        assert {volume["name"] for volume in spec["volumes"]} == {"tmp", "var"}
        policy = _of(manifests, "NetworkPolicy", f"-{role}")["spec"]
        assert policy["podSelector"]["matchLabels"].items() <= pods[role]["metadata"]["labels"].items()
        (rule,) = policy["ingress"]
        (peer,) = rule["from"]
        assert set(peer["podSelector"]["matchExpressions"][0]["values"]) == ours
        assert rule["ports"] == [{"port": spec["containers"][0]["ports"][0]["name"], "protocol": "TCP"}]
    egress = _of(_manifests(chart, DASK), "NetworkPolicy", "-egress")["spec"]["egress"]
    assert [port["port"] for port in egress[1]["ports"]] == [9786, 9788]


def test_what_the_allocator_compiles_has_a_place_that_can_be_written(chart: helm.Chart) -> None:
    manifests = _manifests(chart, DASK)
    common = _of(manifests, "ConfigMap")["data"]
    for role in ("work", "serve", "dask-worker", "dask-scheduler"):
        spec = _pods(manifests)[role]["spec"]
        (container,) = spec["containers"]
        given = {entry["name"]: entry.get("value") for entry in container["env"]}
        cache = (given if role.startswith("dask") else common)["XDG_CACHE_HOME"]
        empty = {volume["name"] for volume in spec["volumes"] if "emptyDir" in volume}
        writable = [mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] in empty]
        assert any(Path(cache).is_relative_to(path) for path in writable)


def test_there_is_never_more_than_one_gateway(chart: helm.Chart) -> None:
    gateway = _of(_manifests(chart, GATEWAY), "Deployment", "-gateway")
    assert gateway["spec"]["replicas"] == 1
    assert gateway["spec"]["strategy"] == {"type": "Recreate"}
    names = [m["metadata"]["name"] for m in _manifests(chart, {}) if m["kind"] == "Deployment"]
    assert names == ["demo-vpp-serve", "demo-vpp-work"]


def test_the_openadr2_vtn_has_its_own_port_certificate_and_service(
    chart: helm.Chart, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifests = _manifests(chart, VTN)
    pods = _pods(manifests)
    container = pods["openadr2-vtn"]["spec"]["containers"][0]
    assert container["args"][2:] == ["vtn", "--host", "0.0.0.0", "--port", "9443"]
    assert {each["name"]: each["containerPort"] for each in container["ports"]} == {"openadr2": 9443, "metrics": 9100}
    assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "metrics"}
    mounted = {each["name"]: each["mountPath"] for each in container["volumeMounts"]}
    assert mounted["openadr2-vtn"] == "/etc/vpp/openadr2-vtn"
    assert "openadr2-vtn" not in {each["name"] for each in pods["serve"]["spec"]["volumes"]}
    service = _of(manifests, "Service", "-openadr2-vtn")["spec"]
    assert service["ports"] == [{"name": "openadr2", "port": 8443, "targetPort": "openadr2"}]
    chosen = [role for role, pod in pods.items() if service["selector"].items() <= pod["metadata"]["labels"].items()]
    assert chosen == ["openadr2-vtn"]
    policy = _of(manifests, "NetworkPolicy", "-openadr2-vtn")["spec"]
    assert policy["ingress"] == [
        {"ports": [{"port": "openadr2", "protocol": "TCP"}], "from": [{"ipBlock": {"cidr": "198.51.100.0/24"}}]}
    ]
    for name, value in _of(manifests, "ConfigMap")["data"].items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert settings.openadr2_vtn_require_mtls
    assert settings.openadr2_vtn_sign
    assert (settings.openadr2_vtn_id, settings.openadr2_vtn_poll_s) == ("West-VTN", 20)
    assert settings.openadr2_vtn_ca == Path("/etc/vpp/openadr2-vtn/ca.crt")
    assert settings.public_url == "https://vpp.example.com"
    assert (settings.mqtt_url, settings.mqtt_public_urls) == ("mqtts://broker:8883", ["mqtts://mqtt.example.com:8883"])
    assert settings.mqtt_credentials == settings.secrets_dir / "mqtt"


def test_a_gateway_without_an_address_asks_the_vtns_that_are_peers(chart: helm.Chart) -> None:
    manifests = _manifests(chart, {"gateway": {"enabled": True}})
    assert "gateway" in _pods(manifests)
    assert not [name for name in _of(manifests, "ConfigMap")["data"] if name.startswith("VPP_OPENADR2")]


def test_the_migration_runs_first_and_needs_nothing_of_this_chart(chart: helm.Chart) -> None:
    manifests = _manifests(chart, {})
    job = _of(manifests, "Job", "-migrate")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    pod = job["spec"]["template"]["spec"]
    assert pod["serviceAccountName"] == "default"
    assert "envFrom" not in pod["containers"][0]


@pytest.mark.parametrize("values", VARIANTS.values(), ids=VARIANTS)
def test_no_pod_runs_as_root_or_writes_to_its_own_image(chart: helm.Chart, values: dict[str, Any]) -> None:
    for pod in _pods(_manifests(chart, values)).values():
        spec, container = pod["spec"], pod["spec"]["containers"][0]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] > 0
        assert spec["automountServiceAccountToken"] is False
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["limits"]["memory"]
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in spec["volumes"]}


def test_the_portal_is_asked_whether_it_lives_and_whether_it_is_ready(chart: helm.Chart) -> None:
    container = _pods(_manifests(chart, {}))["serve"]["spec"]["containers"][0]
    probes = {name: container[name]["httpGet"]["path"] for name in container if name.endswith("Probe")}
    assert probes == {"startupProbe": "/healthz", "livenessProbe": "/healthz", "readinessProbe": "/readyz"}


def test_worker_and_gateway_are_asked_whether_they_live_where_they_listen(chart: helm.Chart) -> None:
    manifests = _manifests(chart, GATEWAY | {"metrics": {"port": 9200}})
    given = _of(manifests, "ConfigMap")["data"]
    assert (given["VPP_METRICS_HOST"], given["VPP_METRICS_PORT"]) == ("0.0.0.0", "9200")
    for role in ("work", "gateway"):
        container = _pods(manifests)[role]["spec"]["containers"][0]
        assert container["ports"] == [{"name": "metrics", "containerPort": 9200}]
        probes = {name: container[name]["httpGet"] for name in container if name.endswith("Probe")}
        asked = {"path": "/healthz", "port": "metrics"}
        assert probes == {"startupProbe": asked, "livenessProbe": asked}


def test_service_and_budget_find_the_portals_pods_and_no_others(chart: helm.Chart) -> None:
    manifests = _manifests(chart, EVERYTHING)
    service, budget = _of(manifests, "Service"), _of(manifests, "PodDisruptionBudget")
    for selector in (service["spec"]["selector"], budget["spec"]["selector"]["matchLabels"]):
        chosen = [
            role for role, pod in _pods(manifests).items() if selector.items() <= pod["metadata"]["labels"].items()
        ]
        assert chosen == ["serve"]


def test_no_secret_value_is_in_a_manifest_only_names(chart: helm.Chart) -> None:
    manifests = _manifests(chart, EVERYTHING)
    assert "Secret" not in {m["kind"] for m in manifests}
    serve = _pods(manifests)["serve"]["spec"]
    env = {entry["name"]: entry["valueFrom"]["secretKeyRef"] for entry in serve["containers"][0]["env"]}
    assert env == {
        "VPP_DATABASE_URL": {"name": "vpp-database", "key": "url"},
        "VPP_REDIS_URL": {"name": "vpp-redis", "key": "url"},
    }
    assert "openadr2" not in {volume["name"] for volume in serve["volumes"]}


def test_a_changed_setting_rolls_the_pods(chart: helm.Chart) -> None:
    def checksum(values: dict[str, Any]) -> str:
        annotations: dict[str, str] = _pods(_manifests(chart, values))["work"]["metadata"]["annotations"]
        return annotations["checksum/config"]

    assert checksum({}) == checksum({"work": {"replicas": 9}})
    assert checksum({}) != checksum({"settings": {"cycleS": 60}})


def test_only_the_portal_may_be_reached_where_the_network_is_closed(chart: helm.Chart) -> None:
    manifests = _manifests(chart, EVERYTHING)
    policies = {m["metadata"]["name"]: m["spec"] for m in manifests if m["kind"] == "NetworkPolicy"}
    assert policies.keys() == {"demo-fleet-serve", "demo-fleet-quiet", "demo-fleet-egress"}
    assert "ingress" not in policies["demo-fleet-quiet"]
    assert policies["demo-fleet-egress"]["egress"][1] == {"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}


def test_metrics_of_worker_and_gateway_are_for_whom_the_values_name(chart: helm.Chart) -> None:
    monitoring = {"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}
    manifests = _manifests(chart, {"networkPolicy": {"enabled": True, "metricsFrom": [monitoring]}})
    quiet = _of(manifests, "NetworkPolicy", "-quiet")["spec"]
    assert quiet["ingress"] == [{"ports": [{"port": "metrics", "protocol": "TCP"}], "from": [monitoring]}]


def test_the_notes_say_who_runs_and_how_to_get_in(chart: helm.Chart) -> None:
    for values, said in (({}, "no gateway"), (EVERYTHING, "https://vpp.example.com/")):
        rendered = chart.render(values, name="demo", namespace="prod")
        notes = next(text for name, text in rendered.items() if name.endswith("NOTES.txt"))
        assert said in notes
        assert "vpp account" in notes


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown value": ({"replicaCount": 3}, "replicaCount"),
    "a misspelt setting": ({"settings": {"cycleSeconds": 60}}, "cycleSeconds"),
    "a cycle of no length": ({"settings": {"cycleS": 0}}, "/settings/cycleS"),
    "a length in words": ({"settings": {"heartbeatS": "5s"}}, "/settings/heartbeatS"),
    "no image": ({"image": {"repository": ""}}, "/image/repository"),
    "a tag inside the repository": ({"image": {"repository": "vpp:1.0"}}, "/image/repository"),
    "a pull policy that does not exist": ({"image": {"pullPolicy": "Sometimes"}}, "/image/pullPolicy"),
    "no database": ({"database": {"existingSecret": ""}}, "/database/existingSecret"),
    "an address where a Secret's name belongs": (
        {"redis": {"existingSecret": "redis://valkey:6379/0"}}, "/redis/existingSecret",
    ),
    "no worker": ({"work": {"replicas": 0}}, "/work/replicas"),
    "a cluster without workers": ({"dask": {"worker": {"replicas": 0}}}, "/dask/worker/replicas"),
    "a cluster on a privileged port": ({"dask": {"port": 86}}, "/dask/port"),
    "a second scheduler": ({"dask": {"scheduler": {"replicas": 2}}}, "replicas"),
    "half a worker": ({"work": {"replicas": 1.5}}, "/work/replicas"),
    "a privileged port": ({"serve": {"port": 80}}, "/serve/port"),
    "a memory nobody can read": ({"work": {"resources": {"limits": {"memory": "2 gigs"}}}}, "/work/resources"),
    "a resource kind that does not exist": ({"work": {"resources": {"maximum": {}}}}, "maximum"),
    "root": ({"podSecurityContext": {"runAsUser": 0}}, "/podSecurityContext/runAsUser"),
    "a gateway that signs to nobody": (
        {"gateway": {"sign": True, "certificate": {"existingSecret": "c"}}}, "/gateway",
    ),
    "a VTN that wants certificates and shows none": (
        {"openadr2Vtn": {"requireMtls": True}}, "/openadr2Vtn/certificate/existingSecret",
    ),
    "a VTN that wants certificates of nobody": (
        {"openadr2Vtn": {"requireMtls": True, "certificate": {"existingSecret": "c"}}},
        "/openadr2Vtn/certificate/caKey",
    ),
    "a broker whose password is nowhere": (
        {"mqtt": {"url": "mqtts://broker:8883", "credentialsKey": "mqtt"}}, "/vendors/existingSecret",
    ),
    "a second VTN": ({"openadr2Vtn": {"replicas": 2}}, "replicas"),
    "a gateway without a programme": (
        {"gateway": {"enabled": True, "vtnUrl": "https://vtn.example"}}, "/gateway/programs",
    ),
    "a gateway of two": ({"gateway": {"replicas": 2}}, "replicas"),
    "a signature without a certificate": ({"gateway": {"sign": True}}, "/gateway/certificate/existingSecret"),
    "a fingerprint that is too short": ({"gateway": {"vtnFingerprint": "00:11"}}, "/gateway/vtnFingerprint"),
    "an ingress without a host": ({"ingress": {"enabled": True}}, "/ingress/host"),
    "a log level that does not exist": ({"logLevel": "LOUD"}, "/logLevel"),
    "a port of no number": ({"metrics": {"port": "metrics"}}, "/metrics/port"),
    "a secret nothing reads": ({"session": {"existingSecret": "vpp-session"}}, "session"),
    "a service type that does not exist": ({"service": {"type": "External"}}, "/service/type"),
}  # fmt: skip


@pytest.mark.parametrize(("values", "named"), WRONG.values(), ids=WRONG)
def test_a_wrong_value_is_refused_by_name(chart: helm.Chart, values: dict[str, Any], named: str) -> None:
    with pytest.raises(helm.HelmValuesError) as refused:
        chart.validate_schema(values)
    assert named in str(refused.value)
