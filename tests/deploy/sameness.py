"""Kustomize and Helm side by side: what may differ between what they make, and what does."""

import copy
import re
import tomllib
from collections.abc import Callable, Iterator

from manifests import Object, Objects, containers, title


def drop_namespace(item: Object) -> None:
    item["metadata"].pop("namespace", None)


def drop_release_labels(item: Object) -> None:
    """Wherever labels are: in metadata, templates and selectors."""
    release = {
        "app.kubernetes.io/instance",
        "app.kubernetes.io/version",
        "app.kubernetes.io/managed-by",
        "helm.sh/chart",
    }

    def clean(part: object) -> None:
        if isinstance(part, dict):
            for key in release & part.keys():
                del part[key]
        for inner in part.values() if isinstance(part, dict) else part if isinstance(part, list) else []:
            clean(inner)

    clean(item)


def drop_checksum(item: Object) -> None:
    if item["kind"] == "Deployment":
        metadata = item["spec"]["template"]["metadata"]
        metadata.get("annotations", {}).pop("checksum/config", None)
        if metadata.get("annotations") == {}:
            del metadata["annotations"]


def drop_hash(item: Object) -> None:
    named = [item["metadata"]] if item["kind"] == "ConfigMap" else []
    if item["kind"] == "Deployment":
        named += [
            volume["configMap"] for volume in item["spec"]["template"]["spec"]["volumes"] if "configMap" in volume
        ]
    for place in named:
        place["name"] = re.sub(r"(-config(-canary)?)-[a-z0-9]{10}$", r"\1", place["name"])


def read_settings(item: Object) -> None:
    if item["kind"] == "ConfigMap":
        item["data"]["config.toml"] = tomllib.loads(item["data"]["config.toml"])


def drop_default_type(item: Object) -> None:
    if item["kind"] == "Service" and item["spec"].get("type") == "ClusterIP":
        del item["spec"]["type"]


def drop_keep(item: Object) -> None:
    if item["kind"] == "PersistentVolumeClaim":
        item["metadata"].pop("annotations", None)


def order_by_name(item: Object) -> None:
    if item["kind"] == "Deployment":
        spec = item["spec"]["template"]["spec"]
        spec["volumes"].sort(key=lambda volume: volume["name"])
        for container in containers(spec):
            container.get("env", []).sort(key=lambda variable: variable["name"])
            container.get("volumeMounts", []).sort(key=lambda mount: mount["mountPath"])


# What may differ between the chart and kustomize, and why.
ALLOWED: dict[Callable[[Object], None], str] = {
    drop_namespace: "helm install --namespace says it, kustomize writes it into the objects",
    drop_release_labels: "a namespace may have several releases; kustomize has nameSuffix for that",
    drop_checksum: "Helm's ConfigMap keeps its name, so that the pods have to change otherwise",
    drop_hash: "kustomize's ConfigMap has a name for each content",
    read_settings: "the same settings with other comments",
    drop_default_type: "the chart offers other types and so writes the default",
    drop_keep: "kustomize deletes nothing by itself, a release that goes would",
    order_by_name: "order has no meaning there; components and conditions come in another",
}


def normalised(objects: Objects, allowed: list[Callable[[Object], None]] | None = None) -> dict[str, Object]:
    """Objects by kind and name, without what may differ. Pods of tests are left out: kustomize has none."""
    result = {}
    for item in copy.deepcopy(objects):
        if "helm.sh/hook" in item["metadata"].get("annotations", {}):
            continue
        for apply in ALLOWED if allowed is None else allowed:
            apply(item)
        result[title(item)] = item
    return result


def differences(left: object, right: object, path: str = "") -> Iterator[str]:
    if isinstance(left, dict) and isinstance(right, dict):
        for key in sorted(left.keys() | right.keys()):
            yield from differences(left.get(key), right.get(key), f"{path}.{key}")
    elif isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
        for place, (one, other) in enumerate(zip(left, right, strict=True)):
            yield from differences(one, other, f"{path}[{place}]")
    elif left != right:
        yield f"{path}: {left!r} or {right!r}"
