"""The charts and the examples of deploy/: rendered by helm and kubectl, and held against the resources' schemas."""

import functools
import json
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.cluster.node import components
from tests.harness.places import CHECKOUT

CHARTS = CHECKOUT / "charts"
GRANARY = CHARTS / "granary"
CRDS = CHARTS / "granary-crds"
DEPLOY = CHECKOUT / "deploy"
FIXTURES = sorted((GRANARY / "ci").glob("*.yaml"))
TEMPLATES = sorted((GRANARY / "templates").rglob("*"))
# The oldest that the charts say they work on.
KUBERNETES = "1.30.0"
# Values that the schema knows and values.yaml does not name.
NOT_SET = {"global", "resources.claims"}


class Loader(yaml.SafeLoader):
    """Refuses a mapping that has a key twice, which YAML forbids and PyYAML lets pass."""


def mapping(loader: Loader, node: yaml.MappingNode) -> dict:
    keys = [loader.construct_object(key) for key, _ in node.value]
    twice = {key for key in keys if keys.count(key) > 1}
    if twice:
        raise yaml.constructor.ConstructorError(None, None, f"{twice} twice", node.start_mark)
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)


def documents(text: str) -> list[dict]:
    return [document for document in yaml.load_all(text, Loader) if document is not None]


@functools.cache
def program(name: str) -> str:
    """That of the machine, or the one that the cluster's tests build."""
    found = shutil.which(name)
    if found:
        return found
    recipe = next(recipe for recipe in components.ALL if name in recipe.programs)
    return str(components.build(recipe) / name)


def run(*arguments: str | Path) -> subprocess.CompletedProcess:
    name, *rest = arguments
    return subprocess.run([program(str(name)), *rest], capture_output=True, text=True, timeout=120)


def helm_template(chart: Path, *arguments: str | Path) -> subprocess.CompletedProcess:
    return run("helm", "template", "granary", chart, "--namespace", "granary-system", "--kube-version", KUBERNETES, *arguments)


@functools.cache
def rendered(chart: Path, *arguments: str | Path) -> list[dict]:
    done = helm_template(chart, *arguments)
    assert done.returncode == 0, done.stderr
    return documents(done.stdout)


def fixture(name: str) -> list[dict]:
    return rendered(GRANARY, "--values", GRANARY / "ci" / f"{name}.yaml")


def of_kind(objects: list[dict], *kinds: str) -> list[dict]:
    return [found for found in objects if found["kind"] in kinds]


def one(objects: list[dict], kind: str) -> dict:
    (found,) = of_kind(objects, kind)
    return found


# --- The schema of a resource, as the API server reads it. Rules in CEL are asked by the tests on a cluster.


@functools.cache
def schemas() -> dict[str, dict]:
    """The schema of each kind."""
    return {
        crd["spec"]["names"]["kind"]: crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        for crd in of_kind(rendered(CRDS), "CustomResourceDefinition")
    }


TYPES = {"string": str, "boolean": bool, "object": dict, "array": list, "integer": int, "number": (int, float)}


def problems(value: object, schema: dict, path: str) -> Iterator[str]:
    """What of a value is not as its schema says."""
    if value is None and schema.get("nullable"):
        return
    if schema.get("x-kubernetes-int-or-string"):
        if isinstance(value, bool) or not isinstance(value, (int, str)):
            yield f"{path}: neither integer nor string"
        return
    wanted = schema.get("type")
    if wanted and (not isinstance(value, TYPES[wanted]) or (wanted != "boolean" and isinstance(value, bool))):
        yield f"{path}: not of type {wanted}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{path}: none of {schema['enum']}"
    if isinstance(value, dict):
        yield from object_problems(value, schema, path)
    elif isinstance(value, list):
        yield from size_problems(len(value), schema, "Items", path)
        for index, item in enumerate(value):
            yield from problems(item, schema.get("items", {}), f"{path}[{index}]")
    elif isinstance(value, str):
        yield from size_problems(len(value), schema, "Length", path)
        if not re.search(schema.get("pattern", ""), value):
            yield f"{path}: does not match {schema['pattern']}"
    elif isinstance(value, (int, float)):
        if not schema.get("minimum", value) <= value <= schema.get("maximum", value):
            yield f"{path}: out of range"


def object_problems(value: dict, schema: dict, path: str) -> Iterator[str]:
    properties, others = schema.get("properties", {}), schema.get("additionalProperties")
    for name in schema.get("required", []):
        if name not in value:
            yield f"{path}.{name}: missing"
    for name, item in value.items():
        if name in properties:
            yield from problems(item, properties[name], f"{path}.{name}")
        elif isinstance(others, dict):
            yield from problems(item, others, f"{path}.{name}")
        elif not schema.get("x-kubernetes-preserve-unknown-fields") and path + name not in ("metadata", "apiVersion", "kind"):
            yield f"{path}.{name}: unknown"


def size_problems(size: int, schema: dict, what: str, path: str) -> Iterator[str]:
    if not schema.get(f"min{what}", size) <= size <= schema.get(f"max{what}", size):
        yield f"{path}: its size {size} is out of range"


def assert_ours_are_valid(objects: list[dict], source: str) -> None:
    """Objects of our kinds keep to their schemas."""
    for found in objects:
        if found.get("apiVersion", "").startswith("granary.dev/"):
            assert found["apiVersion"] == "granary.dev/v1alpha1", source
            spec = schemas()[found["kind"]]["properties"]["spec"]
            assert list(problems(found["spec"], spec, "spec")) == [], f"{source}: {found['kind']} {found['metadata']['name']}"


def subschemas(schema: object) -> Iterator[dict]:
    if isinstance(schema, dict):
        yield schema
        for part in schema.values():
            yield from subschemas(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from subschemas(part)


# --- granary-crds


def test_the_definitions_are_upgraded_and_outlive_the_release():
    crds = rendered(CRDS)
    assert [crd["metadata"]["name"] for crd in crds] == ["channels.granary.dev", "packageregistries.granary.dev"]
    for crd in crds:
        assert crd["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
        generated = documents((CHECKOUT / "crds" / "yaml" / f"{crd['metadata']['name']}.yaml").read_text())[0]
        assert crd["spec"] == generated["spec"], "the chart changes nothing of what is generated"


def test_labels_and_annotations_are_added_to_the_definitions():
    for crd in rendered(CRDS, "--set", "annotations.a=x,labels.b=y"):
        assert crd["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep", "a": "x"}
        assert crd["metadata"]["labels"]["b"] == "y"
        assert crd["metadata"]["labels"]["app.kubernetes.io/part-of"] == "granary"


def test_the_api_server_and_its_controllers_accept_the_definitions():
    for kind, schema in schemas().items():
        for part in subschemas(schema):
            # kube-controller-manager 1.34 crashes on it as soon as an admission policy is about the resource.
            assert part.get("additionalProperties") is not False, f"{kind}: additionalProperties: false in {part}"
            if "default" in part and "type" in part:
                assert list(problems(part["default"], part, kind)) == [], "a default keeps to its own schema"
            rules = part.get("type") == "array" and any("x-kubernetes-validations" in item for item in subschemas(part["items"]))
            assert not rules or "maxItems" in part, f"{kind}: the cost of rules is reckoned by maxItems of {part}"


# --- granary


def test_chart_and_images_have_the_version_of_the_programs():
    version = tomllib.loads((CHECKOUT / "Cargo.toml").read_text())["workspace"]["package"]["version"]
    for chart in (GRANARY, CRDS):
        (about,) = documents((chart / "Chart.yaml").read_text())
        assert (about["version"], about["appVersion"]) == (version, version)
    environment = operator_environment(fixture("minimal"))
    assert environment["GRANARY_IMAGE"] == f"granary:{version}"
    assert environment["GRANARY_STORE_IMAGE"] == f"granary-store:{version}"


@pytest.mark.parametrize("values", FIXTURES, ids=lambda path: path.stem)
def test_lint(values: Path):
    done = run("helm", "lint", "--strict", "--kube-version", KUBERNETES, GRANARY, "--values", values)
    assert done.returncode == 0, done.stdout + done.stderr


def test_lint_of_the_definitions():
    done = run("helm", "lint", "--strict", "--kube-version", KUBERNETES, CRDS)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("values", FIXTURES, ids=lambda path: path.stem)
def test_rendering_twice_gives_the_same(values: Path):
    first, second = (helm_template(GRANARY, "--values", values).stdout for _ in range(2))
    assert first == second
    names = [(found["kind"], found["metadata"].get("namespace"), found["metadata"]["name"]) for found in documents(first)]
    assert len(names) == len(set(names)), "no object twice"


@pytest.mark.parametrize(("values", "message"), [
    ("replicass=1", "additional properties 'replicass' not allowed"),
    ("image.tagg=1", "at '/image': additional properties 'tagg' not allowed"),
    ("replicas=two", "at '/replicas': got string, want integer"),
    ("replicas=2,leaderElection.enabled=false", "at '/replicas': maximum: got 2, want 1"),
    ("image.digest=abc", "at '/image/digest': 'abc' does not match pattern"),
    ("image.pullPolicy=Sometimes", "at '/image/pullPolicy': value must be one of 'Always', 'IfNotPresent', 'Never'"),
    ("watchNamespaces={a,a}", "at '/watchNamespaces': items at 0 and 1 are equal"),
    ("watchNamespaces={A}", "at '/watchNamespaces/0': 'A' does not match pattern"),
    ("serviceAccount.create=false", "at '/serviceAccount/name': minLength: got 0, want 1"),
    ("metrics.serviceMonitor.interval=often", "at '/metrics/serviceMonitor/interval': 'often' does not match pattern"),
    ("log.format=xml", "at '/log/format': value must be one of 'json', 'human'"),
])
def test_a_slip_of_the_pen_is_refused(values: str, message: str):
    done = helm_template(GRANARY, "--set", values)
    assert done.returncode != 0
    assert message in done.stderr


def leaves(values: dict, prefix: str = "") -> set[str]:
    """The names of all values; those of maps that are somebody else's end at the map."""
    names = set()
    for key, value in values.items():
        names |= leaves(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {prefix + key}
    return names


def schema_leaves(schema: dict, prefix: str = "") -> set[str]:
    names = set()
    for key, part in schema["properties"].items():
        names |= schema_leaves(part, f"{prefix}{key}.") if "properties" in part else {prefix + key}
    return names


def test_values_schema_and_fixtures_know_the_same_values():
    schema = json.loads((GRANARY / "values.schema.json").read_text())
    known = schema_leaves(schema) - NOT_SET

    def named_by(path: Path) -> set[str]:
        """Which of the known values a file sets."""
        (values,) = documents(path.read_text())
        return {name for name in known for leaf in leaves(values) if leaf == name or leaf.startswith(f"{name}.")}

    assert named_by(GRANARY / "values.yaml") == known, "every value stands in values.yaml"
    on = named_by(GRANARY / "ci" / "everything.yaml") | named_by(GRANARY / "ci" / "namespaced.yaml")
    assert on == known - {"serviceAccount.create", "rbac.aggregateRoles"}, "every value is tried, these two by the test below"
    for part in subschemas(schema):
        if "properties" in part and part.get("type") == "object":
            assert part.get("additionalProperties") is False, part


def operator_environment(objects: list[dict]) -> dict[str, str]:
    (container,) = one(objects, "Deployment")["spec"]["template"]["spec"]["containers"]
    return {variable["name"]: variable.get("value") for variable in container["env"]}


def test_everything_arrives_where_it_belongs():
    objects = fixture("everything")
    kinds = {found["kind"] for found in objects}
    assert {"ServiceMonitor", "PrometheusRule", "NetworkPolicy", "PodDisruptionBudget", "ConfigMap"} <= kinds
    pod = one(objects, "Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["image"].startswith("upstream.example/platform/granary@sha256:")
    assert operator_environment(objects)["GRANARY_STORE_IMAGE"].startswith("upstream.example/platform/granary-store@sha256:")
    assert operator_environment(objects)["HTTPS_PROXY"]
    assert pod["imagePullSecrets"] == [{"name": "regcred"}]
    assert pod["serviceAccountName"] == one(objects, "ServiceAccount")["metadata"]["name"] == "granary"
    for part in ("nodeSelector", "tolerations", "affinity", "priorityClassName", "volumes"):
        assert pod[part], part
    json.loads(one(objects, "ConfigMap")["data"]["granary.json"])


def test_what_the_cluster_has_already_is_not_made():
    objects = rendered(GRANARY, "--set", "serviceAccount.create=false,serviceAccount.name=mine,rbac.aggregateRoles=false")
    assert not of_kind(objects, "ServiceAccount")
    assert [role["metadata"]["name"] for role in of_kind(objects, "ClusterRole")] == ["granary-operator"]
    assert one(objects, "ClusterRoleBinding")["subjects"][0]["name"] == "mine"


def test_alerts_and_dashboard_ask_for_metrics_that_exist():
    text = "".join((GRANARY / "files" / name).read_text() for name in ("alerts.yaml", "dashboard.json"))
    asked = {re.sub(r"_bucket$", "", name) for name in re.findall(r"granary_(?:http|operator)_[a-z_]+", text)}
    documented = set(re.findall(r"`(granary_[a-z_]+)`", (CHECKOUT / "docs" / "operations.md").read_text()))
    assert asked <= documented


def test_selectors_find_the_operator_and_neither_the_test_nor_a_registry():
    objects = fixture("minimal")
    labels = one(objects, "Deployment")["spec"]["template"]["metadata"]["labels"]
    selector = one(objects, "Service")["spec"]["selector"]
    assert selector == one(objects, "Deployment")["spec"]["selector"]["matchLabels"]
    assert selector.items() <= labels.items()
    assert not selector.items() <= one(objects, "Pod")["metadata"]["labels"].items()
    assert selector["app.kubernetes.io/name"] != "granary", "that is the name of registry pods"


# --- Rights


def rules(objects: list[dict]) -> Iterator[dict]:
    for role in of_kind(objects, "Role", "ClusterRole"):
        yield from role["rules"]


@pytest.mark.parametrize("values", FIXTURES, ids=lambda path: path.stem)
def test_no_rule_has_a_wildcard_or_a_right_over_rights(values: Path):
    for rule in rules(fixture(values.stem)):
        text = json.dumps(rule)
        assert "*" not in text
        assert not {"escalate", "bind", "impersonate"} & set(rule["verbs"])
        assert "rbac.authorization.k8s.io" not in text
        assert not {"pods", "pods/exec", "nodes"} & set(rule["resources"])
        if "secrets" in rule["resources"]:
            assert not {"list", "watch", "delete"} & set(rule["verbs"]), "by name alone"


def rule_comments() -> Iterator[tuple[Path, str]]:
    """The comment before each rule of the templates; empty where there is none."""
    for path in TEMPLATES:
        lines = path.read_text().splitlines() if path.suffix in (".yaml", ".tpl") else []
        for number, line in enumerate(lines):
            if line.lstrip().startswith("- apiGroups:"):
                above = number
                while lines[above - 1].lstrip().startswith("# "):
                    above -= 1
                yield path, " ".join(text.strip(" #") for text in lines[above:number])


def test_every_rule_names_the_code_that_needs_it():
    comments = list(rule_comments())
    assert len(comments) > 15
    for path, comment in comments:
        sources = re.findall(r"[a-z_/]+\.rs", comment)
        assert sources or comment.startswith("For people"), f"{path.name}: {comment!r}"
        for source in sources:
            assert (CHECKOUT / source).is_file(), f"{path.name}: {source}"


def test_named_namespaces_are_all_that_the_operator_reaches():
    objects = fixture("namespaced")
    assert not of_kind(objects, "ClusterRole", "ClusterRoleBinding")
    assert {role["metadata"]["namespace"] for role in of_kind(objects, "Role", "RoleBinding")} == {"team-a", "team-b"}
    assert operator_environment(objects)["WATCH_NAMESPACES"] == "team-a,team-b"
    role = of_kind(objects, "Role")[0]
    everywhere = next(found for found in of_kind(fixture("minimal"), "ClusterRole") if found["metadata"]["name"] == "granary-operator")
    assert [rule for rule in everywhere["rules"] if rule not in role["rules"]] == [
        {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get"]}]
    for binding in of_kind(objects, "RoleBinding"):
        assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "granary-operator", "namespace": "granary-system"}]


def test_the_lease_is_held_by_a_role_of_its_own_namespace():
    objects = fixture("minimal")
    leader = one(objects, "Role")
    assert leader["metadata"]["namespace"] == "granary-system"
    assert {resource for rule in leader["rules"] for resource in rule["resources"]} == {"leases"}
    assert "leases" not in {resource for role in of_kind(objects, "ClusterRole") for rule in role["rules"] for resource in rule["resources"]}


def test_without_leader_election_the_old_operator_ends_first():
    assert one(fixture("namespaced"), "Deployment")["spec"]["strategy"]["type"] == "Recreate"
    assert one(fixture("minimal"), "Deployment")["spec"]["strategy"]["type"] == "RollingUpdate"


@pytest.mark.parametrize("values", FIXTURES, ids=lambda path: path.stem)
def test_pods_keep_to_the_restricted_standard(values: Path):
    objects = fixture(values.stem)
    for pod in (one(objects, "Deployment")["spec"]["template"]["spec"], one(objects, "Pod")["spec"]):
        assert pod["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
            assert {"requests", "limits"} <= container["resources"].keys()


# --- deploy/


EXAMPLES = sorted(DEPLOY.rglob("*.yaml"))
OVERLAYS = sorted(path.parent for path in DEPLOY.rglob("kustomization.yaml"))


def relative(path: Path) -> str:
    return str(path.relative_to(CHECKOUT))


def is_whole(path: Path) -> bool:
    """Whether a file holds objects rather than patches to them."""
    return not (path.parent.parent.name == "overlays" and path.name == "registry.yaml")


@pytest.mark.parametrize("path", EXAMPLES, ids=relative)
def test_an_example_is_valid(path: Path):
    found = documents(path.read_text())
    assert found
    if is_whole(path):
        assert_ours_are_valid(found, relative(path))


@pytest.mark.parametrize("folder", OVERLAYS, ids=relative)
def test_kustomize_renders(folder: Path):
    done = run("kubectl", "kustomize", folder)
    assert done.returncode == 0, done.stderr
    objects = documents(done.stdout)
    assert_ours_are_valid(objects, relative(folder))
    if folder.parent.name == "overlays":
        assert one(objects, "Namespace")["metadata"]["name"] == one(objects, "PackageRegistry")["metadata"]["namespace"]
        assert len(of_kind(objects, "Channel")) == 2


def test_the_smallest_registry_has_five_lines():
    assert len((DEPLOY / "minimal" / "registry.yaml").read_text().splitlines()) == 5


@pytest.mark.parametrize("path", [GRANARY / "templates" / "NOTES.txt", DEPLOY / "kind.md"], ids=relative)
def test_what_is_to_be_typed_is_valid(path: Path):
    typed = re.findall(r"<<'END'\n(.*?)\n *END\n", path.read_text(), re.DOTALL)
    assert typed
    for text in typed:
        assert_ours_are_valid(documents(text), relative(path))


@pytest.mark.parametrize("path", sorted([*DEPLOY.glob("*.md"), *CHARTS.glob("*/README.md")]), ids=relative)
def test_links_lead_somewhere(path: Path):
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
        assert (path.parent / target).exists(), target


@pytest.mark.parametrize("tool", ["argocd", "flux"])
def test_gitops_examples_name_what_is_there(tool: str):
    objects = [found for path in (DEPLOY / tool).rglob("*.yaml") for found in documents(path.read_text())]
    folders = [found["spec"].get("path") or found["spec"].get("source", {}).get("path") for found in objects if "spec" in found]
    assert len([folder for folder in folders if folder]) >= 2
    for folder in filter(None, folders):
        assert (CHECKOUT / folder).is_dir(), folder


def test_gitops_values_are_values_of_the_chart(tmp_path: Path):
    application = documents((DEPLOY / "argocd" / "apps" / "2-operator.yaml").read_text())[0]
    release = one([found for found in documents((DEPLOY / "flux" / "operator" / "releases.yaml").read_text())
                   if found["metadata"]["name"] == "granary"], "HelmRelease")
    for values in (application["spec"]["source"]["helm"]["valuesObject"], release["spec"]["values"]):
        file = tmp_path / "values.yaml"
        file.write_text(yaml.safe_dump(values))
        done = helm_template(GRANARY, "--values", file)
        assert done.returncode == 0, done.stderr
