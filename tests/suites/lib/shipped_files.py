"""Manifests and the compose file against their published schemas; the configurations in them pass `check`."""

import pathlib
import subprocess
import sys
import tempfile

import yaml
from compose_spec import ComposeSpecification
from kubernetes_validate import validate

from proxy import Score

ROOT = pathlib.Path(__file__).resolve().parents[3]
VERSION = "1.37"
"""Of Kubernetes. The oldest one that knows all we use is 1.30: `preStop.sleep`."""


def checked(text, files):
    """Whether `bascule check` takes this text, with these files beside it."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        for file, content in files.items():
            (folder / file).write_text(content)
        (folder / "bascule.yaml").write_text(text)
        done = subprocess.run([sys.argv[1], "check", "-c", "bascule.yaml"], cwd=folder, capture_output=True, text=True)
        return done.returncode == 0, done.stderr


def manifests(score):
    folder = ROOT / "docker/kubernetes"
    documents = list(yaml.safe_load_all((folder / "bascule.yaml").read_text()))
    for one in documents:
        problem = ""
        try:
            validate(one, VERSION, strict=True)
        except Exception as error:  # Each kind of error has a class of its own, and all mean no.
            problem = str(error)[:500]
        score.check(f"{one['kind']} {one['metadata']['name']} is as Kubernetes {VERSION} has it", not problem, problem)
    by_kind = {}
    for one in documents:
        by_kind.setdefault(one["kind"], []).append(one)
    pod = by_kind["Deployment"][0]["spec"]["template"]
    labels = pod["metadata"]["labels"]
    for one in by_kind["Service"] + by_kind["PodDisruptionBudget"]:
        selector = one["spec"]["selector"].get("matchLabels", one["spec"]["selector"])
        score.check(f"{one['kind']} {one['metadata']['name']} selects the pods", selector.items() <= labels.items())
    mounts = pod["spec"]["containers"][0]["volumeMounts"]
    score.check("the configuration is mounted as a folder", all("subPath" not in mount for mount in mounts))
    text = by_kind["ConfigMap"][0]["data"]["bascule.yaml"].replace("/etc/bascule-admin/", "")
    score.check("its configuration passes check", *checked(text, {"admin.token": "x" * 40}))
    # The operator's kind is in no schema of Kubernetes: what ties it to the rest is looked at here.
    monitor = yaml.safe_load((folder / "servicemonitor.yaml").read_text())
    endpoint = monitor["spec"]["endpoints"][0]
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    found = [one for one in by_kind["Service"] if wanted <= one["metadata"]["labels"].items()]
    ports = [port["name"] for one in found for port in one["spec"]["ports"]]
    score.check("the ServiceMonitor finds one service and its port", len(found) == 1 and endpoint["port"] in ports)


def compose(score):
    folder = ROOT / "docker"
    described = yaml.safe_load((folder / "compose.yaml").read_text())
    problem = ""
    try:
        ComposeSpecification.model_validate(described)
    except ValueError as error:
        problem = str(error)[:500]
    score.check("compose.yaml is as the specification has it", not problem, problem)
    # The model lets unknown keys pass.
    service = ComposeSpecification.model_json_schema()["$defs"]["Service"]["properties"]
    unknown = {key for one in described["services"].values() for key in one} - set(service)
    score.check("and has no key that the specification does not know", not unknown, unknown)
    missing = []
    for one in described["services"].values():
        for volume in one.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith(".") and not (folder / source).exists():
                missing.append(source)
    score.check("everything that it mounts is there", not missing, missing)
    text = (folder / "compose/bascule/bascule.yaml").read_text()
    token = (folder / "compose/bascule/admin.token").read_text()
    score.check("its configuration passes check", *checked(text, {"admin.token": token}))
    edges = [name for name in described["services"] if name.startswith("edge-")]
    script = (folder / "break-edge").read_text()
    score.check("break-edge knows every edge", len(edges) == 3 and all(edge in script for edge in edges))


def main():
    score = Score()
    manifests(score)
    compose(score)
    score.end()


main()
