"""The manifests under deploy/: kustomize and Helm themselves render them, schemas and policies look at what
comes out, and the server takes the settings in it.

manifests.schema_findings says what each object is checked with: no cluster is asked, so admission
webhooks and CEL rules of custom resources are not. What PyPI does not give, kubectl and helm among it, makes the
tests that need it say that they are skipped."""

import copy
import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

import kubernetes_tools
import manifests
from cluster import cluster
from manifests import DEFAULTS, POLICIES, ROOT, Objects, container, deployment, load, of_kind, pod, pods, title
from rendering import (
    CHART,
    KSERVE,
    KUBERNETES,
    block,
    helm,
    kustomize,
    kustomized,
    overlay_of,
    rendered,
    schema_findings,
    template,
)
from sameness import ALLOWED, differences, normalised
from server import Server, ended
from suite import Skip
from tools import promtool

OVERLAYS = sorted(path.name for path in (KUBERNETES / "overlays").iterdir())
COMPONENTS = sorted(path.name for path in (KUBERNETES / "components").iterdir())
EXAMPLES = sorted(path.name for path in (KSERVE / "examples").iterdir())

# Says what the server has against the settings of the pods.
Accepts = Callable[[Objects, Path], Iterator[str]]

# Sets of values that render to the same as something of kustomize: the base, an overlay, or components on it.
SAME = {
    "base": ["models.source=builtin"],
    "overlays/samples": ["models.source=builtin", "image.repository=ghcr.io/safeserve/safeserve-samples"],
    "overlays/image-volume": [],
    "overlays/pvc": ["models.source=pvc"],
    "overlays/init-container": ["models.source=initContainer"],
    "overlays/production": [
        "apiKeys.secretName=safeserve-api-keys",
        "tls.secretName=safeserve-tls",
        "serviceMonitor.enabled=true",
        "hpa.enabled=true",
    ],
    "overlays/production-keda": [
        "apiKeys.secretName=safeserve-api-keys",
        "tls.secretName=safeserve-tls",
        "serviceMonitor.enabled=true",
        "keda.enabled=true",
    ],
    # A release of its own.
    "overlays/production-canary": [
        "apiKeys.secretName=safeserve-api-keys",
        "tls.secretName=safeserve-tls",
        "serviceMonitor.enabled=true",
        "hpa.enabled=true",
        "canaryOf=safeserve",
        "image.tag=0.1.1",
    ],
    "components/grpc": ["models.source=builtin", "grpc.enabled=true"],
    "components/operators": ["models.source=builtin", "operators.secretName=safeserve-operators"],
    "components/canary": ["models.source=builtin", "canaryOf=safeserve"],
}
# Sets of values that kustomize has no counterpart of.
OTHERS = {
    "without policies": ["networkPolicy.enabled=false", "podDisruptionBudget.enabled=false"],
    "a digest": [f"image.digest=sha256:{'0' * 64}"],
    "grpc with TLS": ["grpc.enabled=true", "tls.secretName=safeserve-tls"],
    "somebody else's account and claim": [
        "serviceAccount.create=false",
        "serviceAccount.name=inference",
        "models.source=pvc",
        "models.pvc.create=false",
    ],
    "settings": [
        "config.limits.max_body_bytes=33554432",
        "config.models.strict=true",
        "config.models.default_model=iris",
        "config.scheduler.max_batch_delay_us=200",
        "config.log.level=warn",
        "resources.cpu=4",
        "resources.memory=8Gi",
    ],
    "placement": [
        "priorityClassName=high",
        "nodeSelector.pool=cpu",
        "tolerations[0].key=dedicated",
        "tolerations[0].operator=Exists",
        "podLabels.team=risk",
        "podAnnotations.note=yes",
        "imagePullSecrets[0].name=registry",
    ],
    "a load balancer": ["service.type=LoadBalancer", "service.port=80"],
    "an Ingress": [
        "ingress.enabled=true",
        "ingress.className=haproxy",
        "ingress.host=models.example.org",
        "ingress.tlsSecretName=models-example-org",
        "ingress.annotations.note=yes",
    ],
    "a user of the cluster's choice": ["podSecurityContext.runAsUser=null", "podSecurityContext.runAsGroup=null"],
    "clients' certificates": [
        "tls.secretName=safeserve-tls",
        "extraEnv[0].name=SAFESERVE__TLS__CLIENT_CA",
        "extraEnv[0].value=/run/safeserve/clients/ca.crt",
        "extraVolumes[0].name=clients",
        "extraVolumes[0].secret.secretName=clients-ca",
        "extraVolumeMounts[0].name=clients",
        "extraVolumeMounts[0].mountPath=/run/safeserve/clients",
        "extraVolumeMounts[0].readOnly=true",
    ],
}


def made(*values: str) -> Objects:
    """By a release of its own, if they are a canary's."""
    is_canary = any(value.startswith("canaryOf=") for value in values)
    return copy.deepcopy(rendered(*values, release="candidate" if is_canary else "safeserve"))


# What a canary is applied next to.
STABLE = {"overlays/production-canary": "overlays/production", "components/canary": "base"}


def applied(name: str) -> Objects:
    return [*(kustomized(STABLE[name]) if name in STABLE else []), *kustomized(name)]


def policy_findings(objects: Objects) -> list[str]:
    return [finding for policy in POLICIES for finding in policy(objects)]


@pytest.fixture(scope="session")
def accepts(program: str) -> Accepts:
    """Gives the program the settings that a pod would have, and says what it has against them."""

    def refusals(objects: Objects, scratch: Path) -> Iterator[str]:
        for item, _, spec in pods(objects):
            (container,) = spec["containers"]
            text = manifests.settings_file(objects, spec)
            arguments = ["print-config"]
            if "--config" in container.get("args", []):
                file = scratch / "config.toml"
                file.write_text(text)
                arguments += ["--config", str(file)]
            elif text:
                yield f"{title(item)}: mounts settings that no argument names"
            # What KServe fills in.
            environment = {
                name: value.replace("{{.Name}}", "iris") for name, value in manifests.environment(container).items()
            }
            done = subprocess.run([program, *arguments], capture_output=True, text=True, env=environment, check=False)
            if done.returncode:
                yield f"{title(item)}: {done.stderr.strip()}"

    return refusals


# Kustomize


@pytest.mark.parametrize(
    "name", ["base", *(f"overlays/{name}" for name in OVERLAYS), *(f"components/{name}" for name in COMPONENTS)]
)
def test_kustomize_renders_valid_objects_that_keep_the_promises(
    name: str, accepts: Accepts, tmp_path: Path
) -> None:
    objects = applied(name)
    assert schema_findings(objects) == []
    assert policy_findings(objects) == []
    assert list(accepts(objects, tmp_path)) == []


@pytest.mark.parametrize("name", ["overlays/production-canary", "components/canary"])
def test_a_canary_is_a_pod_like_the_others_and_nothing_else(name: str) -> None:
    canary = kustomized(name)
    assert sorted(item["kind"] for item in canary) == ["ConfigMap", "Deployment"]
    stable = kustomized(STABLE[name])
    assert not {title(item) for item in canary} & {title(item) for item in stable}
    left, right = pod(stable), pod(canary)
    for spec in (left, right):
        spec["containers"][0].pop("image")
        next(volume for volume in spec["volumes"] if "configMap" in volume)["configMap"].pop("name")
    assert left == right


def test_the_versions_of_kubernetes_are_the_newest_two_that_are_known() -> None:
    older, newer = manifests.newest_versions()
    assert re.fullmatch(r"1\.\d+\.\d+", newer)
    assert int(older.split(".")[1]) + 1 == int(newer.split(".")[1])


@pytest.mark.parametrize("name", OVERLAYS)
def test_an_overlay_is_short(name: str) -> None:
    lines = (KUBERNETES / "overlays" / name / "kustomization.yaml").read_text().splitlines()
    assert len(lines) <= 20


def test_components_that_exclude_each_other_are_noticed(tmp_path: Path) -> None:
    overlay = overlay_of("hpa", tmp_path)
    file = overlay / "kustomization.yaml"
    components = os.path.relpath(KUBERNETES / "components", overlay.resolve())
    file.write_text(file.read_text().replace(f"{components}/hpa\n", f"{components}/hpa\n- {components}/keda\n"))
    # The second has no replicas to take away any more.
    try:
        done = kubernetes_tools.run("kubectl", "kustomize", overlay)
    except kubernetes_tools.Unavailable as reason:
        pytest.skip(str(reason))
    assert done.returncode != 0
    assert "replicas" in done.stderr


# Helm


def test_the_chart_passes_lint() -> None:
    done = helm("lint", "--strict", CHART)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 chart(s) failed" in done.stdout


@pytest.mark.parametrize("name", [*SAME, *OTHERS])
def test_the_chart_renders_valid_objects_that_keep_the_promises(name: str, accepts: Accepts, tmp_path: Path) -> None:
    objects = made(*(SAME | OTHERS)[name])
    if name in STABLE:
        objects = made(*SAME[STABLE[name]]) + objects
    assert schema_findings(objects) == []
    findings = policy_findings(objects)
    if name == "without policies":
        assert [finding.split(": ")[1] for finding in findings] == ["no PodDisruptionBudget", "no NetworkPolicy"]
    elif name == "somebody else's account and claim":
        assert len(findings) == 2 and all(finding.endswith("is not there") for finding in findings)
    elif name == "a user of the cluster's choice":
        # Of the server and of Helm's test.
        assert sorted({finding.partition(": ")[2].partition(": ")[2] for finding in findings}) == [
            "runAsGroup is None, not 65532",
            "runAsUser is None, not 65532",
        ]
    else:
        assert findings == []
    assert list(accepts(objects, tmp_path)) == []


@pytest.mark.parametrize("name", SAME)
def test_the_chart_is_the_same_as_kustomize(name: str) -> None:
    left, right = normalised(kustomized(name)), normalised(made(*SAME[name]))
    assert list(differences(left, right)) == []


def test_the_chart_is_compared_with_every_overlay() -> None:
    assert {name.partition("/")[2] for name in SAME if name.startswith("overlays/")} == set(OVERLAYS)


@pytest.mark.parametrize("allowed", ALLOWED, ids=lambda allowed: allowed.__name__)
def test_an_allowed_difference_is_one(allowed: Callable[[dict], None]) -> None:
    """Each of them makes up for something: without it some pair differs."""
    others = [other for other in ALLOWED if other is not allowed]
    assert any(
        normalised(kustomized(name), others) != normalised(made(*values), others) for name, values in SAME.items()
    )


def test_the_comparison_notices_what_is_not_allowed() -> None:
    left, right = normalised(kustomized("base")), normalised(rendered(*SAME["base"], "resources.cpu=3"))
    found = list(differences(left, right))
    assert [path.partition(": ")[0].rpartition(".")[2] for path in found] == ["cpu", "cpu"]


def test_a_second_release_in_the_namespace_shares_nothing_with_the_first() -> None:
    first, second = (rendered("models.source=pvc", release=release) for release in ("safeserve", "second"))
    assert not {title(item) for item in first} & {title(item) for item in second}
    labels = [item["spec"]["template"]["metadata"]["labels"] for item in of_kind(second, "Deployment")]
    for service in of_kind(first, "Service"):
        assert not service["spec"]["selector"].items() <= labels[0].items()


def test_a_changed_setting_changes_the_pods() -> None:
    def annotations(*values: str) -> dict:
        (deployment,) = of_kind(rendered(*values), "Deployment")
        return deployment["spec"]["template"]["metadata"]["annotations"]

    assert annotations() != annotations("config.log.level=debug")


def test_a_user_is_written_as_a_whole_number() -> None:
    """Helm's numbers have fractions: OpenShift's users would be 1.00068e+09."""
    spec = pod(rendered("podSecurityContext.runAsUser=1000680000", "podSecurityContext.fsGroup=1000680000"))
    assert spec["securityContext"]["runAsUser"] == spec["securityContext"]["fsGroup"] == 1000680000


def test_an_autoscaler_that_is_turned_on_finds_the_replicas_that_there_are() -> None:
    """By Helm's lookup, in a cluster that has the Deployment, and in one that has none yet."""
    wanted = rendered("hpa.enabled=true")
    (running,) = copy.deepcopy(of_kind(rendered(), "Deployment"))
    # As Helm leaves it.
    owner = {f"meta.helm.sh/release-{key}": "safeserve" for key in ("name", "namespace")}
    running["metadata"] |= {"namespace": "safeserve", "annotations": owner}
    running["spec"]["replicas"] = 7
    for there, replicas in (([running], 7), ([], None)):
        with cluster(wanted, there) as address:
            asking = ("--dry-run=server", "--kube-apiserver", address, "--disable-openapi-validation")
            chosen = ("--namespace", "safeserve", "--set", "hpa.enabled=true")
            done = helm("template", "safeserve", CHART, *chosen, *asking)
        assert done.returncode == 0, done.stderr
        assert deployment(load(done.stdout)).get("replicas") == replicas


def test_a_setting_goes_before_what_the_chart_would_choose() -> None:
    """The environment goes before the file: a variable of the chart would make the value a dead one."""
    for key, chosen in (("strict", "true"), ("watch", "false")):
        variable = f"SAFESERVE__MODELS__{key.upper()}"
        assert manifests.environment(container(rendered()))[variable] == chosen
        for value in ("true", "false"):
            objects = rendered(f"config.models.{key}={value}")
            assert variable not in manifests.environment(container(objects))
            assert f"{key} = {value}" in manifests.settings_file(objects, pod(objects))


def test_the_schema_has_every_setting_that_the_chart_does_not_give() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())["properties"]["config"]["properties"]
    has = {(section, key) for section, part in schema.items() for key in part["properties"]}
    chart_gives = {
        # Where it listens is what Services, probes and policies name.
        ("server", "bind"),
        ("operations", "bind"),
        ("grpc", "bind"),
        # Files that it mounts.
        ("server", "api_keys"),
        ("models", "dir"),
        *(("tls", key) for key in DEFAULTS["tls"]),
        *(("admin", key) for key in DEFAULTS["admin"]),
        # Vertex AI has no charts.
        *(("vertex", key) for key in DEFAULTS["vertex"]),
        # Of a directory that is one model, which the chart's is not.
        ("models", "name"),
    }
    all_settings = {(section, key) for section, keys in DEFAULTS.items() for key in keys}
    assert has | (chart_gives & all_settings) == all_settings
    assert not has & chart_gives
    for section, key in has:
        described = schema[section]["properties"][key]
        of_type = {bool: "boolean", int: "integer", str: "string"}[type(DEFAULTS[section][key])]
        assert described.get("type") == of_type or DEFAULTS[section][key] in described["enum"], (section, key)


def test_the_schema_has_the_ranges_of_the_settings(program: str) -> None:
    """The program takes the least and the most, and nothing beyond. It looks at some settings together: these are
    given room."""
    room = {
        "SAFESERVE__SCHEDULER__MAX_QUEUED_ROWS": str(2**24),
        "SAFESERVE__LIMITS__MAX_DEADLINE_MS": str(24 * 60 * 60 * 1000),
    }
    schema = json.loads((CHART / "values.schema.json").read_text())["properties"]["config"]["properties"]

    def is_refused(section: str, key: str, value: object) -> bool:
        variable = f"SAFESERVE__{section}__{key}".upper()
        done = subprocess.run(
            [program, "print-config"],
            capture_output=True,
            text=True,
            env=room | {variable: str(value)},
            check=False,
        )
        # With the least of some, another one is refused, by its own name.
        return f"variable {variable}: {section}.{key}: expected" in done.stderr

    for section, part in schema.items():
        for key, described in part["properties"].items():
            if described.get("type") == "integer":
                least, most = described["minimum"], described["maximum"]
                taken = [value for value in (least - 1, least, most, most + 1) if not is_refused(section, key, value)]
                assert taken == [least, most], (section, key)
    texts = {
        "versions": ["all", "latest", "latest:2", " latest:2 ,digits=all, iris = 1+30 ", "7"]
        + ["", "bogus", "latest:0", "iris=", "=all", "iris=1+", "01", "all,"],
        "labels": ["", "digits/stable=1, digits/canary=2", " a/b = 3 "]
        + ["bogus", "a=1", "a/b/c=1", "/a=1", "a/=1", "a/b=0", "a/b=1,"],
    }
    for key, listed in texts.items():
        for text in listed:
            fits = bool(re.search(schema["models"]["properties"][key]["pattern"], text))
            assert fits is not is_refused("models", key, text), (key, text)


def test_the_schema_has_every_value() -> None:
    """At each level: nothing in values.yaml that the schema does not know, and nothing in the schema without a
    default."""
    schema = json.loads((CHART / "values.schema.json").read_text())

    def compare(values: dict, part: dict, path: str) -> None:
        if "properties" not in part or path == ".config":
            return
        assert values.keys() == part["properties"].keys() - {"global"}, path
        for key, value in values.items():
            if isinstance(value, dict) and value:
                compare(value, part["properties"][key], f"{path}.{key}")

    compare(yaml.safe_load((CHART / "values.yaml").read_text()), schema, "")


@pytest.mark.parametrize(
    ("values", "named"),
    [
        (["replica=2"], "replica"),
        (["replicas=0"], "/replicas"),
        (["image.tag=a b"], "/image/tag"),
        (["image.tag=latest"], "image.tag"),
        (["image.digest=sha256:1"], "/image/digest"),
        (["image.pullPolicy=Sometimes"], "/image/pullPolicy"),
        (["models.source=s3"], "/models/source"),
        (["models.imageVolume.reference=registry/models"], "/models/imageVolume/reference"),
        (["models.imageVolume.reference=registry/models:latest"], "models.imageVolume.reference"),
        (["models.pvc.size=ten"], "/models/pvc/size"),
        (["models.pvc.accessModes[0]=ReadWriteSometimes"], "/models/pvc/accessModes/0"),
        (["models.initContainer.image=registry/models:latest"], "models.initContainer.image"),
        (["models.initContainer.sizeLimit=2GB"], "/models/initContainer/sizeLimit"),
        (["config.server.drain_delay=1"], "drain_delay"),
        (["config.server.bind=0.0.0.0:80"], "bind"),
        (["config.server.drain_delay_ms=-1"], "/config/server/drain_delay_ms"),
        (["config.server.drain_delay_ms=null"], "drain_delay_ms"),
        (["config.scheduler.max_batch_rows=0"], "/config/scheduler/max_batch_rows"),
        (["config.limits.max_connections=0"], "/config/limits/max_connections"),
        (["config.models.versions=bogus"], "/config/models/versions"),
        (["config.models.strict=1"], "/config/models/strict"),
        (["config.queue.rows=1"], "queue"),
        (["config.log.level=loud"], "/config/log/level"),
        (["preStopSleepSeconds=4"], "/preStopSleepSeconds"),
        (["terminationGracePeriodSeconds=32"], "terminationGracePeriodSeconds"),
        (["config.server.drain_timeout_ms=28000"], "config.server.drain_timeout_ms"),
        (["resources.cpu=1.5"], "/resources/cpu"),
        (["resources.memory=1G"], "/resources/memory"),
        (["config.models.max_weight_bytes=1000000000"], "config.models.max_weight_bytes"),
        (["service.type=ExternalName"], "/service/type"),
        (["service.port=70000"], "/service/port"),
        (["grpc.enabled=yes please"], "/grpc/enabled"),
        (["tls.secretName=My_Secret"], "/tls/secretName"),
        (["podDisruptionBudget.maxUnavailable=0"], "/podDisruptionBudget/maxUnavailable"),
        (["networkPolicy.clients=null"], "clients"),
        (["networkPolicy.clients[0].pods=all"], "/networkPolicy/clients/0"),
        (["serviceMonitor.interval=often"], "/serviceMonitor/interval"),
        (["hpa.enabled=true", "keda.enabled=true"], "hpa.enabled and keda.enabled"),
        (["autoscaling.minReplicas=13"], "autoscaling.minReplicas"),
        (["autoscaling.cpuUtilizationPercentage=150"], "/autoscaling/cpuUtilizationPercentage"),
        (["keda.prometheusAddress=prometheus"], "/keda/prometheusAddress"),
        (["serviceAccount.create=false"], "serviceAccount.name"),
        (["ingress.enabled=true"], "ingress.host"),
        (["ingress.host=a b"], "/ingress/host"),
        (["operators.secretName=My_Secret"], "/operators/secretName"),
        (["podSecurityContext.runAsUser=0"], "/podSecurityContext/runAsUser"),
        (["podSecurityContext.runAsNonRoot=false"], "runAsNonRoot"),
        (["extraEnv[0].value=a"], "/extraEnv/0"),
        (["canaryOf=safeserve"], "canaryOf"),
    ],
    ids=lambda part: ",".join(part) if isinstance(part, list) else "",
)
def test_bad_values_are_refused_by_their_names(values: list[str], named: str) -> None:
    done = template(*values)
    assert done.returncode != 0
    assert named in done.stderr


def test_a_cluster_that_is_too_old_is_refused() -> None:
    for version, named in (("1.32.0", "models.source"), ("1.29.0", "kubeVersion")):
        done = helm("template", "safeserve", CHART, "--kube-version", version)
        assert done.returncode != 0
        assert named in done.stderr


def test_the_notes_say_how_to_ask() -> None:
    done = helm("install", "--dry-run=client", "safeserve", CHART, "--set", "tls.secretName=a,apiKeys.secretName=b")
    notes = done.stdout.partition("NOTES:")[2]
    assert "https://safeserve.default.svc:8080" in notes, done.stdout + done.stderr
    assert "--retry-connrefused https://127.0.0.1:8080/v2/repository/index -H" in notes
    assert "helm test" not in notes


def test_the_notes_say_whom_the_policy_keeps_out() -> None:
    def notes(*values: str) -> str:
        flags = [flag for value in values for flag in ("--set", value)]
        return helm("install", "--dry-run=client", "safeserve", CHART, *flags).stdout.partition("NOTES:")[2]

    warning, balancer = "No one outside the cluster", "service.type=LoadBalancer"
    assert warning in notes(balancer)
    assert warning not in notes()
    assert warning not in notes(balancer, "networkPolicy.enabled=false")
    assert warning not in notes(balancer, "networkPolicy.clients[0].ipBlock.cidr=192.0.2.0/24")
    assert "A canary of stable" in notes("canaryOf=stable")


# KServe


@pytest.mark.parametrize("name", EXAMPLES)
def test_kserve_examples_are_valid(name: str) -> None:
    objects = load((KSERVE / "examples" / name).read_text())
    assert schema_findings(objects) == []
    assert policy_findings(objects) == []
    runtimes = kustomize(KSERVE)
    for item in objects:
        for predictor in manifests.predictors(item):
            model = predictor["model"]
            fitting = [
                runtime
                for runtime in runtimes
                if model["protocolVersion"] in runtime["spec"]["protocolVersions"]
                and model["modelFormat"]["name"]
                in {known["name"] for known in runtime["spec"]["supportedModelFormats"]}
            ]
            assert len(fitting) == 1, f"{title(item)}: {len(fitting)} runtimes fit"


def test_kserve_examples_are_what_their_names_say() -> None:
    examples = {name: load((KSERVE / "examples" / name).read_text())[0] for name in EXAMPLES}
    modes = {
        name: item["metadata"]["annotations"]["serving.kserve.io/deploymentMode"] for name, item in examples.items()
    }
    assert modes["standard.yaml"] == modes["canary-standard.yaml"] == modes["grpc.yaml"] == "Standard"
    assert modes["serverless.yaml"] == modes["canary-serverless.yaml"] == "Knative"
    assert examples["serverless.yaml"]["spec"]["predictor"]["minReplicas"] == 0
    # A canary is the same object with another model.
    assert examples["canary-serverless.yaml"]["metadata"]["name"] == examples["serverless.yaml"]["metadata"]["name"]
    assert examples["canary-serverless.yaml"]["spec"]["predictor"].pop("canaryTrafficPercent") == 10
    stable, canary = examples["serverless.yaml"]["spec"], examples["canary-serverless.yaml"]["spec"]
    assert [path.partition(": ")[0] for path in differences(stable, canary)] == [
        ".predictor.model.storageUri"
    ]
    (split,) = examples["canary-standard.yaml"]["spec"].pop("canary")
    assert split["trafficPercent"] == 10
    assert examples["canary-standard.yaml"]["spec"] == examples["standard.yaml"]["spec"]


def test_the_runtimes_are_valid_and_keep_the_promises(accepts: Accepts, tmp_path: Path) -> None:
    objects = kustomize(KSERVE)
    assert schema_findings(objects) == []
    assert policy_findings(objects) == []
    assert list(accepts(objects, tmp_path)) == []


def test_the_runtimes_are_what_knative_takes() -> None:
    """Its field masks: one port with a name that it knows, no lifecycle, probes on that port, nothing of the pod's."""
    names = {"http1": 8080, "h2c": 9000}
    for item, _, spec in pods(kustomize(KSERVE)):
        (container,) = spec["containers"]
        (port,) = container["ports"]
        assert names[port["name"]] == port["containerPort"], title(item)
        assert container["name"] == "kserve-container"
        assert not container.keys() & {"lifecycle", "stdin", "tty", "volumeDevices"}
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            if probe in container:
                handler = container[probe].get("httpGet") or container[probe]["grpc"]
                assert handler["port"] == port["containerPort"]
        assert not spec.keys() & {"securityContext", "affinity", "nodeSelector", "tolerations", "hostIPC"}
        annotations = spec["annotations"]
        bind = manifests.setting([], spec, "operations", "bind")
        assert bind.endswith(f":{annotations['prometheus.kserve.io/port']}")
        assert annotations["prometheus.kserve.io/path"] == "/metrics"


def test_kserves_pods_are_scraped_where_their_metrics_are() -> None:
    (monitor,) = load((KSERVE / "podmonitor.yaml").read_text())
    assert schema_findings([monitor]) == []
    specs = [spec for _, _, spec in pods(kustomize(KSERVE))]
    named = {spec["containers"][0]["ports"][0]["name"] for spec in specs}
    assert {endpoint["port"] for endpoint in monitor["spec"]["podMetricsEndpoints"]} == named
    for endpoint in monitor["spec"]["podMetricsEndpoints"]:
        for spec in specs:
            port = spec["annotations"]["prometheus.kserve.io/port"]
            target = {
                "__meta_kubernetes_namespace": "prod",
                "__meta_kubernetes_pod_annotation_prometheus_kserve_io_port": port,
                "__meta_kubernetes_pod_ip": "192.0.2.1",
                "__meta_kubernetes_pod_label_app": "isvc.iris-v2-predictor",
                "__meta_kubernetes_pod_name": "iris-v2-predictor-1",
            }
            labels = manifests.relabelled(target, endpoint["relabelings"])
            assert labels["__address__"] == f"192.0.2.1:{port}"
            # A canary of the service, or another service, is another job.
            assert labels["job"] == "safeserve/prod/iris-v2"
            assert labels["instance"] == "iris-v2-predictor-1"
            assert re.fullmatch(job_of_the_rules(), labels["job"])
            others = target | {"__meta_kubernetes_pod_annotation_prometheus_kserve_io_port": "8080"}
            assert manifests.relabelled(others, endpoint["relabelings"]) is None


# Pages


def test_the_overlay_of_the_page_is_what_it_says(accepts: Accepts, tmp_path: Path) -> None:
    page = KUBERNETES / "README.md"
    overlay = tmp_path / "overlay"
    overlay.mkdir()
    here = os.path.relpath(KUBERNETES / "overlays" / "production", overlay.resolve())
    text, replaced = re.subn(r"(?m)^  - \S+/overlays/production$", f"  - {here}", block(page, "yaml"))
    assert replaced == 1
    (overlay / "kustomization.yaml").write_text(text)
    (overlay / "config.toml").write_text(block(page, "toml"))
    objects = kustomize(overlay)
    assert schema_findings(objects) == []
    assert policy_findings(objects) == []
    assert list(accepts(objects, tmp_path)) == []
    spec = pod(objects)
    assert spec["containers"][0]["image"] == "registry.internal/safeserve:0.1.0"
    assert {"reference": "registry.internal/models:42", "pullPolicy": "IfNotPresent"} in [
        volume.get("image") for volume in spec["volumes"]
    ]
    assert "max_body_bytes = 33554432" in manifests.settings_file(objects, spec)


def test_the_values_of_the_page_are_what_it_says(accepts: Accepts, tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text(block(CHART.parent / "README.md", "yaml"))
    version = manifests.newest_versions(1)[0]
    done = helm("template", "safeserve", CHART, "--kube-version", version, "--values", values)
    assert done.returncode == 0, done.stderr
    objects = load(done.stdout)
    assert schema_findings(objects) == []
    assert policy_findings(objects) == []
    assert list(accepts(objects, tmp_path)) == []


def test_the_rules_become_objects_of_the_operator() -> None:
    """By the page's own lines, with a kubectl that prints what it is given."""
    lines = re.search(r"(?ms)^for file in .*?^done$", (KUBERNETES / "README.md").read_text())[0]
    script = f"kubectl() {{ cat; echo ---; }}\n{lines}"
    done = subprocess.run(["bash", "-euc", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    objects = load(done.stdout)
    files = list((ROOT / "deploy" / "prometheus" / "rules").glob("*.yml"))
    assert [item["metadata"]["name"] for item in objects] == [f"safeserve-{file.stem}" for file in sorted(files)]
    assert schema_findings(objects) == []
    # What the chart kube-prometheus-stack has its operator select by.
    assert {item["metadata"]["labels"]["release"] for item in objects} == {"kube-prometheus-stack"}


def test_what_the_pages_ask_waits_for_the_port(tmp_path: Path) -> None:
    """A port-forward in the background does not listen yet when the next line runs."""
    for page in (KUBERNETES / "README.md", CHART / "templates" / "NOTES.txt", KSERVE / "README.md"):
        lines = [line for line in page.read_text().splitlines() if line.lstrip().startswith("curl")]
        assert lines and all("--retry 5 --retry-connrefused" in line for line in lines), page


def test_the_pages_name_all_that_there_is() -> None:
    page = (KUBERNETES / "README.md").read_text()
    for name in (*OVERLAYS, *COMPONENTS):
        assert f"`{name}`" in page, name
    page = (KSERVE / "README.md").read_text()
    for name in EXAMPLES:
        assert f"`{name}`" in page, name


def test_the_pages_say_which_namespaces_are_let_in() -> None:
    (policy,) = of_kind(kustomized("base"), "NetworkPolicy")
    (labels,) = (
        peer["namespaceSelector"]["matchLabels"]
        for peer in policy["spec"]["ingress"][0]["from"]
        if "namespaceSelector" in peer
    )
    ((key, value),) = labels.items()
    for page in (KUBERNETES / "README.md", CHART.parent / "README.md"):
        assert f"`{key}={value}`" in page.read_text(), page


def test_links_lead_somewhere() -> None:
    for page in (KUBERNETES / "README.md", CHART.parent / "README.md", KSERVE / "README.md"):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page}: {target}"


# Names that others give


def test_what_scales_is_a_metric_that_the_server_has(program: str, tmp_path: Path) -> None:
    asked = {
        target["series"]
        for name in ("components/hpa", "components/keda")
        for item in of_kind(kustomized(name), "HorizontalPodAutoscaler", "ScaledObject")
        for target in manifests.queue_targets(item)
    }
    adapter = yaml.safe_load((KUBERNETES / "prometheus-adapter-values.yaml").read_text())
    (rule,) = adapter["rules"]["custom"]
    assert asked == {rule["name"]["as"]}
    assert rule["seriesQuery"].partition("{")[0] in asked
    with ended(Server([program], ROOT / "models", [], tmp_path)) as server:
        shown = {series for series, _ in server.metrics()}
        assert asked <= shown
        assert server.value(rule["name"]["as"], model="iris") == 0


def test_the_queries_count_the_rows_that_wait(tmp_path: Path) -> None:
    """Prometheus' own promtool evaluates both: of each pod all models together, averaged, and no one else's."""
    try:
        check = promtool()
    except Skip as reason:
        pytest.skip(str(reason))
    (scaled,) = of_kind(kustomized("components/keda"), "ScaledObject")
    adapter = yaml.safe_load((KUBERNETES / "prometheus-adapter-values.yaml").read_text())
    (rule,) = adapter["rules"]["custom"]
    series = rule["name"]["as"]
    # As the adapter fills it in, for all pods of a Deployment.
    matchers = 'namespace="safeserve",pod=~"a|b"'
    filled = rule["metricsQuery"].replace("<<.Series>>", series).replace("<<.GroupBy>>", "pod")
    filled = filled.replace("<<.LabelMatchers>>", matchers)

    def waiting(pod: str, model: str, values: str, namespace: str = "safeserve") -> dict:
        labels = f'namespace="{namespace}",service="safeserve-operations",pod="{pod}"'
        return {"series": f'{series}{{{labels},model="{model}",version="1"}}', "values": values}

    cases = {
        "rule_files": [],
        "evaluation_interval": "15s",
        "tests": [
            {
                "interval": "15s",
                "input_series": [
                    waiting("a", "iris", "0 40 0 40 0 40 0 40 0"),
                    waiting("a", "digits", "5x8"),
                    waiting("b", "iris", "100x8"),
                    waiting("c", "iris", "1000x8", namespace="other"),
                    waiting("safeserve-canary-d", "iris", "1000x8"),
                ],
                "promql_expr_test": [
                    {
                        "expr": scaled["spec"]["triggers"][0]["metadata"]["query"],
                        "eval_time": "95s",
                        "exp_samples": [{"labels": "{}", "value": 125}],
                    },
                    {
                        "expr": filled,
                        "eval_time": "95s",
                        "exp_samples": [{"labels": '{pod="a"}', "value": 25}, {"labels": '{pod="b"}', "value": 100}],
                    },
                ],
            }
        ],
    }
    file = tmp_path / "cases.yml"
    file.write_text(yaml.safe_dump(cases))
    done = subprocess.run([check, "test", "rules", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_query_of_keda_asks_for_its_own_namespace_and_service() -> None:
    objects = kustomized("overlays/production-keda")
    (scaled,) = of_kind(objects, "ScaledObject")
    query = scaled["spec"]["triggers"][0]["metadata"]["query"]
    services = {item["metadata"]["name"] for item in of_kind(objects, "Service")}
    assert dict(re.findall(r'(\w+)="([^"]*)"', query)).pop("namespace") == scaled["metadata"]["namespace"]
    assert dict(re.findall(r'(\w+)="([^"]*)"', query)).pop("service") in services


def job_of_the_rules() -> str:
    """The expression by which the alerts find what they watch."""
    alerts = (ROOT / "deploy" / "prometheus" / "rules" / "alerts.yml").read_text()
    (expression,) = set(re.findall(r'job=~"([^"]*)"', alerts))
    return expression


def test_each_installation_is_a_job_of_its_own() -> None:
    monitored = "serviceMonitor.enabled=true"
    installations = {
        "safeserve": kustomized("components/monitoring"),
        "second-safeserve": rendered(monitored, release="second"),
        # Whatever it is called, the rules find it.
        "first-scorer": rendered(monitored, "nameOverride=scorer", release="first"),
        "fraud": rendered(monitored, "fullnameOverride=fraud"),
    }
    for name, objects in installations.items():
        (monitor,) = of_kind(objects, "ServiceMonitor")
        (service,) = (
            item
            for item in of_kind(objects, "Service")
            if manifests.matches(monitor["spec"]["selector"], item["metadata"]["labels"])
        )
        (endpoint,) = monitor["spec"]["endpoints"]
        for namespace in ("prod", "staging"):
            target = {
                "__meta_kubernetes_namespace": namespace,
                "__meta_kubernetes_service_name": service["metadata"]["name"],
                "__meta_kubernetes_pod_name": "pod-1",
            }
            labels = manifests.relabelled(target, endpoint["relabelings"])
            assert labels["job"] == f"safeserve/{namespace}/{name}"
            assert re.fullmatch(job_of_the_rules(), labels["job"])
            assert labels["instance"] == "pod-1"


def test_a_setting_that_does_not_exist_is_found(accepts: Accepts, tmp_path: Path) -> None:
    objects = kustomized("base")
    of_kind(objects, "ConfigMap")[0]["data"]["config.toml"] = "[server]\ndrain_delay = 1"
    (refusal,) = accepts(objects, tmp_path)
    assert "drain_delay" in refusal
