"""Schemas of what is no part of Kubernetes: the objects of Prometheus Operator, KEDA and KServe. None publishes its
CustomResourceDefinitions as a package; each has Python classes that were generated from them. Their sources are
read here, not run, so that nothing of what they import has to be installed."""

import ast
import json
import re
from functools import cache
from importlib.resources import files
from pathlib import Path

import kubernetes_tools as tools

# Kind to package and module.
PYDANTIC = {
    "ServiceMonitor": (tools.PROMETHEUS_OPERATOR, "prometheus_operator/v1.py"),
    "PodMonitor": (tools.PROMETHEUS_OPERATOR, "prometheus_operator/v1.py"),
    "PrometheusRule": (tools.PROMETHEUS_OPERATOR, "prometheus_operator/v1.py"),
    "ScaledObject": (tools.KEDA, "keda/v1alpha1.py"),
}
# Kind to class.
KSERVE = {
    "ClusterServingRuntime": "V1alpha1ClusterServingRuntime",
    "InferenceService": "V1beta1InferenceService",
}
PLAIN = {
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "str": {"type": "string"},
    "bool": {"type": "boolean"},
    "dict": {"type": "object"},
    "object": {},
    "Any": {},
    "AwareDatetime": {"type": "string"},
}
BOUNDS = {
    "ge": ["minimum"],
    "le": ["maximum"],
    "pattern": ["pattern"],
    "min_length": ["minLength", "minItems"],
    "max_length": ["maxLength", "maxItems"],
}

Schema = dict


def has(kind: str) -> bool:
    return kind in PYDANTIC or kind in KSERVE


@cache
def of_kind(kind: str, version: str) -> Schema:
    """The schema of a kind; Kubernetes' own parts, a container for example, are strict and of this version.

    Raises tools.Unavailable if the classes are not available."""
    schemas = files("kubernetes_validate") / "kubernetes-json-schema"
    native = json.loads((schemas / f"v{version}-local-strict" / "_definitions.json").read_text())["$defs"]
    if kind in KSERVE:
        return kserve(tools.kserve(), KSERVE[kind], native)
    package, module = PYDANTIC[kind]
    return pydantic(tools.cloudcoil(package) / module, kind, native)


def reference(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


OBJECT_META = reference("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta")


@cache
def classes_of(module: Path) -> dict[str, ast.ClassDef]:
    return {part.name: part for part in ast.parse(module.read_text()).body if isinstance(part, ast.ClassDef)}


def pydantic(module: Path, kind: str, native: Schema) -> Schema:
    """From classes of pydantic: fields by annotation, their bounds and names in Field."""
    classes = classes_of(module)
    defined = dict(native)

    def described(node: ast.expr) -> Schema:
        match node:
            case ast.Constant(value=None):
                return {"type": "null"}
            # A class that is defined below its use is named in quotes.
            case ast.Name(id=name) | ast.Constant(value=str(name)):
                if name in classes:
                    define(name)
                    return reference(name)
                return OBJECT_META if name == "ObjectMeta" else PLAIN[name]
            case ast.BinOp(op=ast.BitOr(), left=left, right=right):
                return {"anyOf": [described(left), described(right)]}
            case ast.Subscript(value=ast.Name(id="Literal"), slice=values):
                listed = values.elts if isinstance(values, ast.Tuple) else [values]
                return {"enum": [ast.literal_eval(value) for value in listed]}
            case ast.Subscript(value=ast.Name(id="list"), slice=inner):
                return {"type": "array", "items": described(inner)}
            case ast.Subscript(value=ast.Name(id="dict"), slice=ast.Tuple(elts=[_, inner])):
                return {"type": "object", "additionalProperties": described(inner)}
            case ast.Subscript(value=ast.Name(id="Annotated"), slice=ast.Tuple(elts=[inner, ast.Call() as field])):
                given = {word.arg: ast.literal_eval(word.value) for word in field.keywords}
                bounds = {name: value for key, value in given.items() for name in BOUNDS.get(key, [])}
                return {"allOf": [described(inner), bounds]} if bounds else described(inner)
        raise AssertionError(f"{module}: cannot read {ast.unparse(node)}")

    def define(name: str) -> None:
        if name in defined:
            return
        # Before its fields are looked at, which may hold the same class.
        defined[name] = {}
        fields = [part for part in classes[name].body if isinstance(part, ast.AnnAssign)]
        properties, required = {}, []
        for field in fields:
            if "ClassVar" in ast.unparse(field.annotation):
                continue
            found = re.search(r"alias='([^']+)'", ast.unparse(field.annotation))
            key = found[1] if found else field.target.id
            properties[key] = described(field.annotation)
            if field.value is None:
                required.append(key)
        if properties.keys() == {"root"}:
            defined[name] = properties["root"]
        else:
            defined[name] = strict(properties, required)

    define(kind)
    return reference(kind) | {"$defs": defined}


def kserve(models: Path, root: str, native: Schema) -> Schema:
    """From classes of openapi-generator: two tables of fields, and setters that refuse what has to be there."""
    defined = dict(native)
    # Container is io.k8s.api.core.v1.Container, in whichever group.
    by_class: dict[str, list[str]] = {}
    for name in native:
        by_class.setdefault(name.rsplit(".", 1)[1], []).append(name)

    def module(name: str) -> Path:
        """V1beta1LLMSpec is in v1beta1_llm_spec.py."""
        words = re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", name)
        words = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", words)
        return models / f"{words.lower()}.py"

    def described(name: str) -> Schema:
        if name in PLAIN:
            return PLAIN[name]
        if found := re.fullmatch(r"list\[(.*)\]", name):
            return {"type": "array", "items": described(found[1])}
        if found := re.fullmatch(r"dict\(str, (.*)\)", name):
            return {"type": "object", "additionalProperties": described(found[1])}
        if module(name).is_file():
            define(name)
            return reference(name)
        if name == "V1ObjectMeta":
            return OBJECT_META
        if name == "ResourceQuantity":
            return reference("io.k8s.apimachinery.pkg.api.resource.Quantity")
        group = "apps" if "AppsV1" in name else "autoscaling" if "Autoscaling" in name else "core"
        short = re.sub(r"^(V1(?=[A-Z])|K8sIoApi(AppsV1|AutoscalingV2))", "", name)
        found = [known for known in by_class.get(short, []) if f".{group}." in known]
        # What is described nowhere, such as Knative's part of a status, is refused rather than let through.
        return reference(found[0]) if found else {"not": {}}

    def define(name: str) -> None:
        if name in defined:
            return
        defined[name] = {}
        body = ast.parse(module(name).read_text()).body
        (described_class,) = (part for part in body if isinstance(part, ast.ClassDef))
        tables = {
            part.targets[0].id: ast.literal_eval(part.value)
            for part in described_class.body
            if isinstance(part, ast.Assign)
        }
        keys = tables["attribute_map"]
        source = ast.unparse(described_class)
        defined[name] = strict(
            {keys[field]: described(of_type) for field, of_type in tables["openapi_types"].items()},
            [key for field, key in keys.items() if f"`{field}`, must not be `None`" in source],
        )

    define(root)
    return reference(root) | {"$defs": defined}


def strict(properties: dict[str, Schema], required: list[str]) -> Schema:
    return {"type": "object", "additionalProperties": False, "properties": properties, "required": required}
