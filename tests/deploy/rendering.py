"""What kubectl and Helm make of the files under deploy/. Where PyPI does not give them, the test that asks is skipped
and says so."""

import copy
import os
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import pytest
import yaml

import kubernetes_tools
import manifests
from manifests import ROOT, Objects, load

KUBERNETES = ROOT / "deploy" / "kubernetes"
CHART = ROOT / "deploy" / "helm" / "safeserve"
KSERVE = ROOT / "deploy" / "kserve"


@cache
def kustomize(path: Path) -> Objects:
    try:
        done = kubernetes_tools.run("kubectl", "kustomize", path)
    except kubernetes_tools.Unavailable as reason:
        pytest.skip(str(reason))
    assert done.returncode == 0, done.stderr
    return load(done.stdout)


def overlay_of(component: str, scratch: Path) -> Path:
    """An overlay that puts one component on the base."""
    overlay = scratch / component
    overlay.mkdir()
    base, path = (os.path.relpath(KUBERNETES / part, overlay.resolve()) for part in ("base", f"components/{component}"))
    (overlay / "kustomization.yaml").write_text(
        yaml.safe_dump(
            {
                "apiVersion": "kustomize.config.k8s.io/v1beta1",
                "kind": "Kustomization",
                "resources": [base],
                "components": [path],
            }
        )
    )
    return overlay


@cache
def on_the_base(component: str) -> Objects:
    with tempfile.TemporaryDirectory() as scratch:
        return kustomize(overlay_of(component, Path(scratch)))


def kustomized(name: str) -> Objects:
    """What the base, an overlay, or a component on the base renders to; each caller gets its own copy."""
    kind, _, component = name.partition("/")
    return copy.deepcopy(on_the_base(component) if kind == "components" else kustomize(KUBERNETES / name))


def helm(*arguments: object) -> subprocess.CompletedProcess:
    try:
        return kubernetes_tools.run("helm", *arguments)
    except kubernetes_tools.Unavailable as reason:
        pytest.skip(str(reason))


def template(*values: str, release: str = "safeserve") -> subprocess.CompletedProcess:
    """Renders the chart as for the newest Kubernetes that is known here."""
    version = manifests.newest_versions(1)[0]
    flags = [flag for value in values for flag in ("--set", value)]
    return helm("template", release, CHART, "--namespace", "safeserve", "--kube-version", version, *flags)


@cache
def rendered(*values: str, release: str = "safeserve") -> Objects:
    done = template(*values, release=release)
    assert done.returncode == 0, done.stderr
    return load(done.stdout)


def schema_findings(objects: Objects) -> list[str]:
    try:
        return [finding for item in objects for finding in manifests.schema_findings(item)]
    except kubernetes_tools.Unavailable as reason:
        pytest.skip(str(reason))


def block(page: Path, language: str) -> str:
    """The first block of a language in a page."""
    return page.read_text().partition(f"```{language}\n")[2].partition("```")[0]
