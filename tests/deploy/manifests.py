"""What is promised of the manifests: their schemas, and policies that look at a set of objects and say what is
wrong with it. Nothing here runs anything."""

import json
import re
import tomllib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import jsonschema
import kubernetes_validate
import yaml
from packaging.version import Version

import custom_resources

ROOT = Path(__file__).resolve().parent.parent.parent
DEFAULTS = tomllib.loads((ROOT / "config" / "default.toml").read_text())
# What the image's environment gives, before a file.
IMAGE_ENVIRONMENT = {"SAFESERVE__SERVER__BIND": "0.0.0.0:8080", "SAFESERVE__MODELS__DIR": "/models"}

Object = dict
Objects = list[Object]


def load(text: str) -> Objects:
    return [item for item in yaml.safe_load_all(text) if item]


def of_kind(objects: Objects, *kinds: str) -> Objects:
    return [item for item in objects if item["kind"] in kinds]


def title(item: Object) -> str:
    return f"{item['kind']}/{item['metadata']['name']}"


# Schemas


def newest_versions(count: int = 2) -> list[str]:
    """The newest versions of Kubernetes that kubernetes-validate has schemas of: the last patch of each."""
    newest = {}
    for version in map(Version, kubernetes_validate.utils.all_versions()):
        newest[version.major, version.minor] = str(version)
    return list(newest.values())[-count:]


def schema_findings(item: Object) -> list[str]:
    """What the object's schema has against it. Kubernetes' own objects are checked strictly at the newest versions,
    those of Prometheus Operator, KEDA and KServe by the fields, types and bounds of classes generated from their
    CustomResourceDefinitions. CEL rules and webhooks are not looked at.

    Raises kubernetes_tools.Unavailable if those classes are not available."""
    return list(findings_of(json.dumps(item)))


@cache
def findings_of(text: str) -> list[str]:
    """The same object comes in many sets."""
    item = json.loads(text)
    findings = []
    for version in newest_versions():
        if custom_resources.has(item["kind"]):
            validator = jsonschema.Draft202012Validator(custom_resources.of_kind(item["kind"], version))
            for error in map(deepest, validator.iter_errors(item)):
                findings.append(f"{title(item)}: {version}: {error.json_path}: {error.message}")
            continue
        try:
            kubernetes_validate.validate(item, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            findings.append(f"{title(item)}: {version}: {'.'.join(map(str, error.path))}: {error.message}")
        except kubernetes_validate.SchemaNotFoundError as error:
            findings.append(f"{title(item)}: {error.message}")
    return findings


def deepest(error: jsonschema.ValidationError) -> jsonschema.ValidationError:
    """Of alternatives, an object or null, the one that says most."""
    while error.context:
        error = max(error.context, key=lambda inner: len(inner.absolute_path))
    return error


# Policies

GIBIBYTE, MEBIBYTE = 2**30, 2**20


def bytes_of(quantity: str) -> int:
    number, unit = re.fullmatch(r"(\d+)(Mi|Gi)", quantity).groups()
    return int(number) * {"Mi": MEBIBYTE, "Gi": GIBIBYTE}[unit]


def pods(objects: Objects) -> Iterator[tuple[Object, dict, dict]]:
    """Each object that makes server's pods, with its pods' metadata and specification."""
    for item in of_kind(objects, "Deployment"):
        yield item, item["spec"]["template"]["metadata"], item["spec"]["template"]["spec"]
    for item in of_kind(objects, "ClusterServingRuntime"):
        yield item, {"labels": {}}, item["spec"]


def deployment(objects: Objects) -> dict:
    """The specification of the only one."""
    (found,) = of_kind(objects, "Deployment")
    return found["spec"]


def pod(objects: Objects) -> dict:
    return deployment(objects)["template"]["spec"]


def container(objects: Objects) -> dict:
    return pod(objects)["containers"][0]


def all_pods(objects: Objects) -> Iterator[tuple[Object, dict, dict]]:
    """The same with pods that are no servers."""
    yield from pods(objects)
    for item in of_kind(objects, "Pod"):
        yield item, item["metadata"], item["spec"]


def containers(spec: dict) -> list[dict]:
    return [*spec.get("initContainers", []), *spec["containers"]]


def environment(container: dict) -> dict[str, str]:
    """Without what only a cluster knows, such as a Secret's value."""
    variables = container.get("env", [])
    return IMAGE_ENVIRONMENT | {variable["name"]: variable["value"] for variable in variables if "value" in variable}


def settings_file(objects: Objects, spec: dict) -> str:
    """The config.toml that a pod mounts; empty if it has none."""
    for volume in spec.get("volumes", []):
        for item in of_kind(objects, "ConfigMap"):
            if volume.get("configMap", {}).get("name") == item["metadata"]["name"]:
                return item["data"]["config.toml"]
    return ""


def is_canary(item: Object) -> bool:
    return item["kind"] == "Deployment" and item["spec"]["template"]["metadata"]["labels"].get("track") == "canary"


def setting(objects: Objects, spec: dict, section: str, key: str) -> object:
    """A setting as the server has it: the environment goes before the file, and that before the default."""
    (container,) = spec["containers"]
    default = DEFAULTS[section][key]
    variable = f"SAFESERVE__{section}__{key}".upper()
    if variable in environment(container):
        return type(default)(environment(container)[variable])
    return tomllib.loads(settings_file(objects, spec)).get(section, {}).get(key, default)


def an_end_fits_its_grace(objects: Objects) -> Iterator[str]:
    """preStop sleeps 5 s or more, and terminationGracePeriodSeconds is more than it, the drain and 5 s."""
    for item, _, spec in pods(objects):
        (container,) = spec["containers"]
        # KServe has no preStop: the delay is all that balancers have.
        pre_stop = 0
        if item["kind"] == "Deployment":
            pre_stop = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
            if pre_stop < 5:
                yield f"{title(item)}: preStop sleeps {pre_stop} s; expected 5 or more"
        delay, timeout = (setting(objects, spec, "server", key) for key in ("drain_delay_ms", "drain_timeout_ms"))
        if pre_stop + delay / 1000 < 5:
            yield f"{title(item)}: balancers have {pre_stop + delay / 1000:g} s to notice; expected 5 or more"
        needed = pre_stop + (delay + timeout) / 1000 + 5
        # Kubernetes' default.
        grace = spec.get("terminationGracePeriodSeconds", 30)
        if grace <= needed:
            yield f"{title(item)}: terminationGracePeriodSeconds is {grace}, the end may take {needed:g} s"


def probes_differ(objects: Objects) -> Iterator[str]:
    """Start, readiness and liveness are asked for apart, and liveness with the most time after the start."""
    for item, _, spec in pods(objects):
        (container,) = spec["containers"]
        is_grpc = "grpc" in container.get("readinessProbe", {})
        names = ["startupProbe", "readinessProbe"] + ([] if is_grpc else ["livenessProbe"])
        if missing := [name for name in names if name not in container]:
            yield f"{title(item)}: no {', '.join(missing)}"
            continue
        probes = [container[name] for name in names]
        if any(left == right for place, left in enumerate(probes) for right in probes[:place]):
            yield f"{title(item)}: two probes are the same"
        allowed = {name: container[name]["periodSeconds"] * container[name]["failureThreshold"] for name in names}
        if allowed["startupProbe"] * 1000 < setting(objects, spec, "models", "load_timeout_ms"):
            yield f"{title(item)}: startupProbe ends before models.load_timeout_ms"
        if is_grpc:
            continue
        if allowed["livenessProbe"] <= allowed["readinessProbe"]:
            yield f"{title(item)}: livenessProbe is not more patient than readinessProbe"
        for name, path in zip(names, ("/v2/health/live", "/v2/health/ready", "/v2/health/live"), strict=True):
            if container[name]["httpGet"]["path"] != path:
                yield f"{title(item)}: {name} asks {container[name]['httpGet']['path']}, not {path}"


def a_rollout_takes_no_capacity(objects: Objects) -> Iterator[str]:
    """The new pod is ready before an old one goes, and a changed setting is a rollout."""
    for item in of_kind(objects, "Deployment"):
        update = item["spec"].get("strategy", {}).get("rollingUpdate", {})
        if update.get("maxUnavailable") != 0 or not update.get("maxSurge"):
            yield f"{title(item)}: maxUnavailable is not 0, or maxSurge is"
        template = item["spec"]["template"]
        start = template["spec"]["containers"][0].get("startupProbe", {})
        allowed = start.get("periodSeconds", 0) * start.get("failureThreshold", 0)
        # Kubernetes' default.
        deadline = item["spec"].get("progressDeadlineSeconds", 600)
        if deadline <= allowed:
            yield f"{title(item)}: the rollout has failed after {deadline} s, a start may take {allowed} s and a pull"
        mounted = [volume["configMap"]["name"] for volume in template["spec"]["volumes"] if "configMap" in volume]
        by_hash = all(re.search(r"-[a-z0-9]{10}$", name) for name in mounted)
        if not by_hash and "checksum/config" not in template["metadata"].get("annotations", {}):
            yield f"{title(item)}: a changed ConfigMap changes no pod"


def limits_are_set(objects: Objects) -> Iterator[str]:
    """Every container has requests and limits, equal ones; the server's cores are whole."""
    for item, _, spec in all_pods(objects):
        for container in containers(spec):
            place = f"{title(item)}: {container['name']}"
            resources = container.get("resources", {})
            limits = resources.get("limits", {})
            if {"cpu", "memory"} - limits.keys() or resources.get("requests") != limits:
                yield f"{place}: no limits of cpu and memory, or other requests"
        if item["kind"] != "Pod":
            cores = spec["containers"][0].get("resources", {}).get("limits", {}).get("cpu", "")
            if not re.fullmatch(r"[1-9]\d*", str(cores)):
                yield f"{title(item)}: {cores or 'no'} cores; expected a whole number"


def memory_holds_the_budgets(objects: Objects) -> Iterator[str]:
    """Weights and bodies leave 3/40 of the memory to the process, as the server's own shares do."""
    for item, _, spec in pods(objects):
        limit = bytes_of(spec["containers"][0]["resources"]["limits"]["memory"])
        weights = setting(objects, spec, "models", "max_weight_bytes") or limit * 4 // 5
        bodies = setting(objects, spec, "limits", "max_inflight_body_bytes") or min(limit // 8, 256 * MEBIBYTE)
        if (weights + bodies) * 40 > limit * 37:
            yield f"{title(item)}: weights and bodies may take {weights + bodies} bytes of {limit}"


def no_one_runs_as_root(objects: Objects) -> Iterator[str]:
    """A numeric user, no capability, no new privileges, RuntimeDefault, nothing to write to, no token."""
    for item, _, spec in all_pods(objects):
        for container in containers(spec):
            # A container's goes before its pod's.
            context = spec.get("securityContext", {}) | container.get("securityContext", {})
            wanted = {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "runAsGroup": 65532,
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
                "seccompProfile": {"type": "RuntimeDefault"},
            }
            for key, value in wanted.items():
                if context.get(key) != value:
                    yield f"{title(item)}: {container['name']}: {key} is {context.get(key)}, not {value}"
        # A runtime has no such field; its InferenceServices have.
        if item["kind"] != "ClusterServingRuntime" and spec.get("automountServiceAccountToken") is not False:
            yield f"{title(item)}: it gets a token for the cluster's API"
    for item in of_kind(objects, "InferenceService"):
        for predictor in predictors(item):
            if predictor.get("automountServiceAccountToken") is not False:
                yield f"{title(item)}: it gets a token for the cluster's API"


def predictors(item: Object) -> list[dict]:
    return [item["spec"]["predictor"], *(canary["predictor"] for canary in item["spec"].get("canary", []))]


def images_are_pinned(objects: Objects) -> Iterator[str]:
    """Every image has a tag or a digest, and none is latest."""
    for item, _, spec in all_pods(objects):
        images = [container["image"] for container in containers(spec)]
        images += [volume["image"]["reference"] for volume in spec.get("volumes", []) if "image" in volume]
        for image in images:
            tag = image.rpartition("/")[2].partition(":")[2]
            if tag in ("", "latest"):
                yield f"{title(item)}: {image} changes by itself"


def matches(selector: dict, labels: dict) -> bool:
    assert not set(selector) - {"matchLabels"}, selector
    return bool(selector) and selector["matchLabels"].items() <= labels.items()


def selectors_match(objects: Objects) -> Iterator[str]:
    """What selects pods selects the server's, what counts them counts no canary's, and nothing selects the pod of
    helm's test."""
    for item, metadata, spec in pods(objects):
        if item["kind"] != "Deployment":
            continue
        labels = metadata["labels"]
        others = [pod["metadata"]["labels"] for pod in of_kind(objects, "Pod")]
        spread = spec.get("topologySpreadConstraints", [])
        if {constraint["topologyKey"] for constraint in spread} != {
            "kubernetes.io/hostname",
            "topology.kubernetes.io/zone",
        }:
            yield f"{title(item)}: not spread over nodes and zones"
        selecting = [(title(item), item["spec"]["selector"])]
        selecting += [(f"{title(item)}: topologySpreadConstraints", each["labelSelector"]) for each in spread]
        for other in of_kind(objects, "Service"):
            selecting.append((title(other), {"matchLabels": other["spec"]["selector"]}))
        budgets = [(title(other), other["spec"]["selector"]) for other in of_kind(objects, "PodDisruptionBudget")]
        for name, selector in [*budgets, (title(item), item["spec"]["selector"])]:
            for other, others_metadata, _ in pods(objects):
                if other is not item and is_canary(other) and matches(selector, others_metadata["labels"]):
                    yield f"{name}: counts the pods of {title(other)}"
        selecting += [] if is_canary(item) else budgets
        for other in of_kind(objects, "NetworkPolicy"):
            selecting.append((title(other), other["spec"]["podSelector"]))
        for name, selector in selecting:
            if not matches(selector, labels):
                yield f"{name}: does not select the pods of {title(item)}"
            if any(matches(selector, other) for other in others):
                yield f"{name}: selects a pod that is no server"
        for kind in ("PodDisruptionBudget", "NetworkPolicy", "Service"):
            if not of_kind(objects, kind):
                yield f"{title(item)}: no {kind}"
    for item in of_kind(objects, "ServiceMonitor"):
        if not any(
            matches(item["spec"]["selector"], other["metadata"]["labels"]) for other in of_kind(objects, "Service")
        ):
            yield f"{title(item)}: selects no Service"


def ports_exist(objects: Objects) -> Iterator[str]:
    """Every port that something names is one of the pods'."""
    for item, _, spec in pods(objects):
        (container,) = spec["containers"]
        ports = {port.get("name"): port["containerPort"] for port in container["ports"]}
        named = []
        for name in ("startupProbe", "readinessProbe", "livenessProbe"):
            probe = container.get(name, {})
            handler = probe.get("httpGet") or probe.get("grpc")
            if handler:
                named.append((f"{title(item)}: {name}", handler["port"]))
        if item["kind"] == "Deployment":
            for other in of_kind(objects, "Service"):
                named += [(title(other), port["targetPort"]) for port in other["spec"]["ports"]]
            for other in of_kind(objects, "NetworkPolicy"):
                named += [(title(other), port["port"]) for rule in other["spec"]["ingress"] for port in rule["ports"]]
        for place, port in named:
            if port not in ports and port not in ports.values():
                yield f"{place}: port {port} is not one of {title(item)}"
        # Where the settings say that it listens.
        for section, name in (("server", "http"), ("operations", "operations"), ("grpc", "grpc")):
            address = setting(objects, spec, section, "bind")
            if item["kind"] == "Deployment" and (address.rpartition(":")[2] or "0") != str(ports.get(name, 0)):
                yield f"{title(item)}: {section}.bind is {address!r}, the port {name} is {ports.get(name)}"
    for item in of_kind(objects, "ServiceMonitor"):
        for other in of_kind(objects, "Service"):
            if matches(item["spec"]["selector"], other["metadata"]["labels"]):
                offered = {port["name"] for port in other["spec"]["ports"]}
                for endpoint in item["spec"]["endpoints"]:
                    if endpoint["port"] not in offered:
                        yield f"{title(item)}: port {endpoint['port']} is not one of {title(other)}"


def operations_are_not_for_clients(objects: Objects) -> Iterator[str]:
    """The operations port is on a Service of its own without an address, and open to other peers than the
    clients'; operators get into the pod first; the pods reach no one."""
    for item in of_kind(objects, "Service"):
        targets = {port["targetPort"] for port in item["spec"]["ports"]}
        if "operations" in targets and (len(targets) > 1 or item["spec"].get("clusterIP") != "None"):
            yield f"{title(item)}: leads clients to the operations port"
    for item in of_kind(objects, "NetworkPolicy"):
        spec = item["spec"]
        if sorted(spec["policyTypes"]) != ["Egress", "Ingress"] or spec.get("egress"):
            yield f"{title(item)}: pods may reach others"
        peers = {"http": [], "grpc": [], "operations": []}
        for rule in spec["ingress"]:
            # No peers are all peers, and no ports all ports.
            if not rule.get("from") or not rule.get("ports"):
                yield f"{title(item)}: a rule lets everybody in, or to every port"
            for port in rule.get("ports", []):
                peers[port["port"]] += rule.get("from", [])
        if any(peer in peers["http"] + peers["grpc"] for peer in peers["operations"]):
            yield f"{title(item)}: clients reach the operations port"
    for item, _, spec in pods(objects):
        if not setting(objects, spec, "operations", "bind"):
            yield f"{title(item)}: the metrics page is on the clients' port"
        operators = setting(objects, spec, "admin", "bind")
        if operators and not operators.startswith("127.0.0.1:"):
            yield f"{title(item)}: the operators' API is at {operators}, where others than port-forward get"
    for item in of_kind(objects, "Ingress"):
        for name in services_of(item):
            if any(title(other) == f"Service/{name}" and "clusterIP" in other["spec"] for other in objects):
                yield f"{title(item)}: leads clients to {name}"


def services_of(ingress: Object) -> set[str]:
    paths = [path for rule in ingress["spec"]["rules"] for path in rule["http"]["paths"]]
    return {path["backend"]["service"]["name"] for path in paths}


def references_exist(objects: Objects) -> Iterator[str]:
    """Mounts have volumes, volumes mounts; ConfigMaps, accounts, claims and what is scaled are there."""
    names = {title(item) for item in objects}
    for item, _, spec in all_pods(objects):
        volumes = {volume["name"] for volume in spec.get("volumes", [])}
        mounted = {mount["name"] for container in containers(spec) for mount in container.get("volumeMounts", [])}
        if volumes != mounted:
            yield f"{title(item)}: volumes and mounts differ: {sorted(volumes ^ mounted)}"
        wanted = []
        if "serviceAccountName" in spec:
            wanted.append(f"ServiceAccount/{spec['serviceAccountName']}")
        for volume in spec.get("volumes", []):
            if "configMap" in volume:
                wanted.append(f"ConfigMap/{volume['configMap']['name']}")
            if "persistentVolumeClaim" in volume:
                wanted.append(f"PersistentVolumeClaim/{volume['persistentVolumeClaim']['claimName']}")
        for name in wanted:
            if name not in names:
                yield f"{title(item)}: {name} is not there"
    for item in of_kind(objects, "HorizontalPodAutoscaler", "ScaledObject"):
        if f"Deployment/{item['spec']['scaleTargetRef']['name']}" not in names:
            yield f"{title(item)}: what it scales is not there"
    for item in of_kind(objects, "Ingress"):
        for name in services_of(item):
            if f"Service/{name}" not in names:
                yield f"{title(item)}: Service/{name} is not there"


def replicas_have_one_owner(objects: Objects) -> Iterator[str]:
    """One autoscaler at most, and with it no number in the Deployment, but in a canary's; never to zero, from which
    nothing would wake it."""
    scalers = of_kind(objects, "HorizontalPodAutoscaler", "ScaledObject")
    if len(scalers) > 1:
        yield f"{' and '.join(map(title, scalers))} scale the same"
    for item in of_kind(objects, "Deployment"):
        if is_canary(item):
            if item["spec"].get("replicas") != 1:
                yield f"{title(item)}: a canary with {item['spec'].get('replicas', 'no number of')} replicas"
            continue
        if scalers and "replicas" in item["spec"]:
            yield f"{title(item)}: each apply sets back the replicas of {title(scalers[0])}"
        if not scalers and item["spec"].get("replicas", 1) < 2:
            yield f"{title(item)}: a single replica"
    for item in scalers:
        least, most = (
            item["spec"].get(f"{end}Replicas", item["spec"].get(f"{end}ReplicaCount")) for end in ("min", "max")
        )
        if not 2 <= least < most:
            yield f"{title(item)}: from {least} to {most}"
        for target in queue_targets(item):
            if target["rows"] >= DEFAULTS["scheduler"]["max_queued_rows"]:
                yield f"{title(item)}: queues are full before {target['rows']} rows wait"


def queue_targets(item: Object) -> Iterator[dict]:
    """The series that an autoscaler asks for and the rows that it lets wait."""
    for metric in item["spec"].get("metrics", []):
        if metric["type"] == "Pods":
            pods_metric = metric["pods"]
            yield {"series": pods_metric["metric"]["name"], "rows": int(pods_metric["target"]["averageValue"])}
    for trigger in item["spec"].get("triggers", []):
        if trigger["type"] == "prometheus":
            (series,) = re.findall(r"\b(safeserve_\w+)\{", trigger["metadata"]["query"])
            yield {"series": series, "rows": int(trigger["metadata"]["threshold"])}


POLICIES: list[Callable[[Objects], Iterator[str]]] = [
    an_end_fits_its_grace,
    probes_differ,
    a_rollout_takes_no_capacity,
    limits_are_set,
    memory_holds_the_budgets,
    no_one_runs_as_root,
    images_are_pinned,
    selectors_match,
    ports_exist,
    operations_are_not_for_clients,
    references_exist,
    replicas_have_one_owner,
]


# What Prometheus makes of a target


def relabelled(labels: dict[str, str], rules: list[dict]) -> dict[str, str] | None:
    """A target's labels after `relabelings`, as Prometheus reads them; None if it is not kept."""
    result = dict(labels)
    for rule in rules:
        value = rule.get("separator", ";").join(result.get(name, "") for name in rule.get("sourceLabels", []))
        found = re.fullmatch(rule.get("regex", "(.*)"), value)
        match rule.get("action", "replace"):
            case "keep":
                if not found:
                    return None
            case "replace":
                if found:
                    replacement = re.sub(r"\$(\d)", r"\\\1", rule.get("replacement", "$1"))
                    result[rule["targetLabel"]] = found.expand(replacement)
            case other:
                raise AssertionError(other)
    return result
