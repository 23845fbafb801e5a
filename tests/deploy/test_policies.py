"""That each check of the manifests can fail: what is broken on purpose is found."""

import copy
from collections.abc import Callable

import pytest

from manifests import POLICIES, Objects, container, deployment, load, of_kind, pod
from rendering import KSERVE, kustomize, kustomized, schema_findings


def first(objects: Objects, kind: str, name: str = "") -> dict:
    return next(item for item in of_kind(objects, kind) if item["metadata"]["name"].startswith(name))["spec"]


def configure(objects: Objects, text: str) -> None:
    (found,) = of_kind(objects, "ConfigMap")
    found["data"]["config.toml"] = text


def remove(objects: Objects, kind: str) -> None:
    objects[:] = [item for item in objects if item["kind"] != kind]


def with_canary(objects: Objects, track: str) -> Objects:
    """With a canary whose pods have this track."""
    canary = copy.deepcopy(of_kind(objects, "Deployment")[0])
    canary["metadata"]["name"] = "canary"
    canary["spec"]["replicas"] = 1
    canary["spec"]["selector"]["matchLabels"]["track"] = "canary"
    canary["spec"]["template"]["metadata"]["labels"]["track"] = track
    objects.append(canary)
    return objects


def ingress(service: str) -> dict:
    backend = {"service": {"name": service, "port": {"name": "http"}}}
    rules = [{"http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}]
    return {"kind": "Ingress", "metadata": {"name": "a"}, "spec": {"rules": rules}}


BREAKS: list[tuple[str, Callable[[Objects], object], str]] = [
    ("an_end_fits_its_grace", lambda o: pod(o).update(terminationGracePeriodSeconds=32), "the end may take 32 s"),
    (
        "an_end_fits_its_grace",
        lambda o: pod(o).pop("terminationGracePeriodSeconds"),
        "terminationGracePeriodSeconds is 30",
    ),
    (
        "an_end_fits_its_grace",
        lambda o: container(o)["lifecycle"]["preStop"]["sleep"].update(seconds=4),
        "preStop sleeps 4 s",
    ),
    ("an_end_fits_its_grace", lambda o: container(o).pop("lifecycle"), "preStop sleeps 0 s"),
    ("an_end_fits_its_grace", lambda o: configure(o, "[server]\ndrain_timeout_ms = 60000"), "the end may take 75 s"),
    (
        "an_end_fits_its_grace",
        lambda o: container(o)["env"].append({"name": "SAFESERVE__SERVER__DRAIN_DELAY_MS", "value": "10000"}),
        "the end may take 40 s",
    ),
    ("probes_differ", lambda o: container(o).pop("livenessProbe"), "no livenessProbe"),
    (
        "probes_differ",
        lambda o: container(o).update(livenessProbe=container(o)["readinessProbe"]),
        "two probes are the same",
    ),
    (
        "probes_differ",
        lambda o: container(o)["livenessProbe"]["httpGet"].update(path="/v2/health/ready"),
        "livenessProbe asks",
    ),
    ("probes_differ", lambda o: container(o)["livenessProbe"].update(periodSeconds=1), "not more patient"),
    ("probes_differ", lambda o: container(o)["startupProbe"].update(failureThreshold=3), "startupProbe ends before"),
    ("a_rollout_takes_no_capacity", lambda o: deployment(o).pop("strategy"), "maxUnavailable"),
    (
        "a_rollout_takes_no_capacity",
        lambda o: deployment(o)["strategy"]["rollingUpdate"].update(maxUnavailable=1),
        "maxUnavailable",
    ),
    (
        "a_rollout_takes_no_capacity",
        lambda o: [
            volume["configMap"].update(name="safeserve-config") for volume in pod(o)["volumes"] if "configMap" in volume
        ],
        "changes no pod",
    ),
    (
        "a_rollout_takes_no_capacity",
        lambda o: deployment(o).pop("progressDeadlineSeconds"),
        "has failed after 600 s, a start may take 600 s",
    ),
    ("limits_are_set", lambda o: container(o)["resources"]["limits"].pop("memory"), "no limits of cpu and memory"),
    ("limits_are_set", lambda o: container(o)["resources"]["requests"].update(cpu="1"), "other requests"),
    (
        "limits_are_set",
        lambda o: [part.update(cpu="1500m") for part in container(o)["resources"].values()],
        "1500m cores",
    ),
    ("memory_holds_the_budgets", lambda o: configure(o, "[models]\nmax_weight_bytes = 1000000000"), "of 1073741824"),
    (
        "memory_holds_the_budgets",
        lambda o: configure(o, "[limits]\nmax_inflight_body_bytes = 268435456"),
        "of 1073741824",
    ),
    ("no_one_runs_as_root", lambda o: pod(o)["securityContext"].update(runAsNonRoot=False), "runAsNonRoot is False"),
    ("no_one_runs_as_root", lambda o: container(o)["securityContext"].update(runAsUser=0), "runAsUser is 0"),
    (
        "no_one_runs_as_root",
        lambda o: container(o)["securityContext"]["capabilities"].update(add=["NET_RAW"]),
        "NET_RAW",
    ),
    ("no_one_runs_as_root", lambda o: container(o)["securityContext"].pop("capabilities"), "capabilities is None"),
    ("no_one_runs_as_root", lambda o: pod(o)["securityContext"].pop("seccompProfile"), "seccompProfile is None"),
    (
        "no_one_runs_as_root",
        lambda o: container(o)["securityContext"].pop("readOnlyRootFilesystem"),
        "readOnlyRootFilesystem",
    ),
    (
        "no_one_runs_as_root",
        lambda o: container(o)["securityContext"].pop("allowPrivilegeEscalation"),
        "allowPrivilege",
    ),
    ("no_one_runs_as_root", lambda o: pod(o).pop("automountServiceAccountToken"), "a token"),
    ("images_are_pinned", lambda o: container(o).update(image="registry:5000/safeserve"), "changes by itself"),
    ("images_are_pinned", lambda o: container(o).update(image="a/safeserve:latest"), "changes by itself"),
    (
        "images_are_pinned",
        lambda o: [volume["image"].update(reference="a/models") for volume in pod(o)["volumes"] if "image" in volume],
        "a/models changes by itself",
    ),
    (
        "selectors_match",
        lambda o: deployment(o)["selector"]["matchLabels"].update(tier="a"),
        "Deployment/safeserve: does not",
    ),
    (
        "selectors_match",
        lambda o: first(o, "Service")["selector"].update(tier="a"),
        "Service/safeserve: does not select",
    ),
    (
        "selectors_match",
        lambda o: first(o, "PodDisruptionBudget")["selector"]["matchLabels"].update(tier="a"),
        "PodDisruptionBudget/safeserve: does not select",
    ),
    (
        "selectors_match",
        lambda o: first(o, "NetworkPolicy").update(podSelector={}),
        "NetworkPolicy/safeserve: does not select",
    ),
    ("selectors_match", lambda o: remove(o, "PodDisruptionBudget"), "no PodDisruptionBudget"),
    ("selectors_match", lambda o: pod(o)["topologySpreadConstraints"].pop(), "not spread"),
    (
        "selectors_match",
        lambda o: first(o, "ServiceMonitor")["selector"]["matchLabels"].update(tier="a"),
        "selects no Service",
    ),
    (
        "selectors_match",
        lambda o: o.append(
            {"kind": "Pod", "metadata": {"name": "test", "labels": deployment(o)["template"]["metadata"]["labels"]}}
        ),
        "selects a pod that is no server",
    ),
    (
        "selectors_match",
        lambda o: first(with_canary(o, "canary"), "Deployment")["selector"]["matchLabels"].pop("track"),
        "Deployment/safeserve: counts the pods of Deployment/canary",
    ),
    (
        "selectors_match",
        lambda o: first(with_canary(o, "canary"), "PodDisruptionBudget")["selector"]["matchLabels"].pop("track"),
        "PodDisruptionBudget/safeserve: counts the pods of Deployment/canary",
    ),
    ("selectors_match", lambda o: with_canary(o, "stable"), "Deployment/canary: does not select"),
    ("ports_exist", lambda o: container(o)["ports"].pop(), "port operations is not one of"),
    ("ports_exist", lambda o: first(o, "Service")["ports"][0].update(targetPort=8088), "port 8088 is not one of"),
    (
        "ports_exist",
        lambda o: first(o, "NetworkPolicy")["ingress"][0]["ports"][0].update(port="web"),
        "port web is not one of",
    ),
    (
        "ports_exist",
        lambda o: container(o)["livenessProbe"]["httpGet"].update(port="health"),
        "livenessProbe: port health",
    ),
    (
        "ports_exist",
        lambda o: first(o, "ServiceMonitor")["endpoints"][0].update(port="http"),
        "port http is not one of Service",
    ),
    ("ports_exist", lambda o: configure(o, '[operations]\nbind = "0.0.0.0:8082"'), "operations.bind is '0.0.0.0:8082'"),
    (
        "operations_are_not_for_clients",
        lambda o: first(o, "Service")["ports"].append({"name": "operations", "port": 8081, "targetPort": "operations"}),
        "leads clients to the operations port",
    ),
    (
        "operations_are_not_for_clients",
        lambda o: first(o, "Service", "safeserve-operations").pop("clusterIP"),
        "leads clients to the operations port",
    ),
    (
        "operations_are_not_for_clients",
        lambda o: first(o, "NetworkPolicy").update(egress=[{}]),
        "pods may reach others",
    ),
    (
        "operations_are_not_for_clients",
        lambda o: first(o, "NetworkPolicy").update(policyTypes=["Ingress"]),
        "may reach others",
    ),
    (
        "operations_are_not_for_clients",
        lambda o: first(o, "NetworkPolicy")["ingress"][1].pop("from"),
        "lets everybody in",
    ),
    (
        "operations_are_not_for_clients",
        lambda o: first(o, "NetworkPolicy")["ingress"][0]["ports"].append({"port": "operations"}),
        "clients reach the operations port",
    ),
    ("operations_are_not_for_clients", lambda o: configure(o, ""), "the metrics page is on the clients' port"),
    (
        "operations_are_not_for_clients",
        lambda o: container(o)["env"].append({"name": "SAFESERVE__ADMIN__BIND", "value": "0.0.0.0:8082"}),
        "the operators' API is at 0.0.0.0:8082",
    ),
    (
        "operations_are_not_for_clients",
        lambda o: o.append(ingress("safeserve-operations")),
        "Ingress/a: leads clients to safeserve-operations",
    ),
    ("references_exist", lambda o: o.append(ingress("b")), "Ingress/a: Service/b is not there"),
    ("references_exist", lambda o: container(o)["volumeMounts"].pop(), "volumes and mounts differ"),
    ("references_exist", lambda o: remove(o, "ConfigMap"), "ConfigMap/safeserve-config"),
    ("references_exist", lambda o: remove(o, "ServiceAccount"), "ServiceAccount/safeserve is not there"),
    (
        "references_exist",
        lambda o: first(o, "HorizontalPodAutoscaler")["scaleTargetRef"].update(name="a"),
        "what it scales",
    ),
    ("replicas_have_one_owner", lambda o: deployment(o).update(replicas=3), "each apply sets back"),
    (
        "replicas_have_one_owner",
        lambda o: with_canary(o, "canary")[-1]["spec"].pop("replicas"),
        "Deployment/canary: a canary with no number of replicas",
    ),
    ("replicas_have_one_owner", lambda o: remove(o, "HorizontalPodAutoscaler"), "a single replica"),
    ("replicas_have_one_owner", lambda o: first(o, "HorizontalPodAutoscaler").update(minReplicas=0), "from 0 to 12"),
    (
        "replicas_have_one_owner",
        lambda o: o.append(
            {
                "kind": "ScaledObject",
                "metadata": {"name": "a"},
                "spec": {"minReplicaCount": 2, "maxReplicaCount": 3, "triggers": []},
            }
        ),
        "scale the same",
    ),
    (
        "replicas_have_one_owner",
        lambda o: first(o, "HorizontalPodAutoscaler")["metrics"][0]["pods"]["target"].update(averageValue="8192"),
        "queues are full before 8192 rows wait",
    ),
]


@pytest.mark.parametrize(("policy", "broken", "finding"), BREAKS, ids=[f"{name}-{text}" for name, _, text in BREAKS])
def test_a_broken_promise_is_found(
    policy: str, broken: Callable[[Objects], object], finding: str
) -> None:
    objects = kustomized("overlays/production")
    broken(objects)
    (check,) = (known for known in POLICIES if known.__name__ == policy)
    assert any(finding in text for text in check(objects)), list(check(objects))


def test_every_policy_is_seen_to_fail() -> None:
    assert {policy for policy, _, _ in BREAKS} == {policy.__name__ for policy in POLICIES}


@pytest.mark.parametrize(
    ("name", "kind", "broken", "finding"),
    [
        ("overlays/production", "Deployment", lambda spec: spec["template"]["spec"].update(replica=1), "replica"),
        ("overlays/production", "HorizontalPodAutoscaler", lambda spec: spec.update(minReplicas="three"), "three"),
        (
            "overlays/production",
            "ServiceMonitor",
            lambda spec: spec["endpoints"][0].update(intervall="1s"),
            "intervall",
        ),
        ("overlays/production", "ServiceMonitor", lambda spec: spec.pop("selector"), "selector"),
        ("overlays/production-keda", "ScaledObject", lambda spec: spec["triggers"][0].pop("type"), "type"),
        ("overlays/production-keda", "ScaledObject", lambda spec: spec.update(minReplicas=1), "minReplicas"),
        ("kserve", "ClusterServingRuntime", lambda spec: spec["containers"][0].update(port=1), "port"),
        ("kserve", "ClusterServingRuntime", lambda spec: spec.update(protocolVersion="v2"), "protocolVersion"),
        ("examples", "InferenceService", lambda spec: spec.pop("predictor"), "predictor"),
        ("examples", "InferenceService", lambda spec: spec["predictor"].update(minReplicas="one"), "one"),
        ("examples", "InferenceService", lambda spec: spec["predictor"]["model"].update(uri="a"), "uri"),
    ],
    ids=lambda part: part if isinstance(part, str) else "",
)
def test_an_object_that_its_schema_does_not_know_is_found(
    name: str, kind: str, broken: Callable[[Objects], object], finding: str
) -> None:
    if name == "kserve":
        objects = copy.deepcopy(kustomize(KSERVE))
    elif name == "examples":
        objects = load((KSERVE / "examples" / "standard.yaml").read_text())
    else:
        objects = kustomized(name)
    broken(first(objects, kind))
    assert any(finding in text for text in schema_findings(objects))
