"""What the API server refuses before anything is stored, and what it says."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.cluster.granary import API, channel, package_registry, run
from tests.cluster.kube import Kube, KubeError
from tests.harness.places import CHECKOUT

SECRET = {"secretRef": {"name": "somewhere"}}
HOST = {"host": "packages.example.com"}
ADA = {"subjects": ["user:ada"], "role": "Reader"}


def grant(**changes: object) -> dict:
    """The spec of a channel with one permission."""
    return {"permissions": [{**ADA, **changes}]}


def both(database: dict | None = None, store: dict | None = None) -> dict:
    """The spec of a registry with a database and an object store."""
    return {"database": {**SECRET, **(database or {})}, "objectStore": {**SECRET, **(store or {})}}


SUBJECT = "a subject is user:NAME, group:NAME, serviceaccount:NAMESPACE/NAME, workload:ISSUER?CLAIM=PATTERN, authenticated or anonymous"
NAME = "a channel's name is letters, digits, '.', '_' and '-', and begins with a letter or a digit"
NOT_SERVED = "proxy, mirror and virtual channels of this format are not served yet; write hosted: {} or leave source out"
SIZE = "write a size such as 512Mi, 1Gi or 1073741824"
SPAN = "write a span of time such as 500ms, 30s, 5m, 1h30m or 7d"
HOST_NAME = "write the name of a host such as packages.example.com: lower-case letters, digits, '-' and '.', with no port"
URL = "write a URL such as"
BUCKET = "a bucket's name is 3 to 63 lower-case letters, digits and '-', with a letter or a digit at both ends"

# What is wrong with a channel, the spec beside format and registryRef, and what the server says.
BAD_CHANNELS = [
    ("a format that nobody knows", {"format": "rpm"},
     'Unsupported value: "rpm": supported values: "conan", "pypi", "conda", "quilt"'),
    ("no format", {"format": None}, "spec.format: Required value"),
    ("no registry", {"registryRef": None},
     "name the PackageRegistry that serves the channel: registryRef: {name: NAME}"),
    ("a registry without a name", {"registryRef": {}}, "spec.registryRef.name: Required value"),
    ("a name that begins with a dash", {"name": "-tools"}, NAME),
    ("a name of three parts", {"name": "a/b/c"}, NAME),
    ("a name with a space", {"name": "my tools"}, NAME),
    ("a name of two parts outside pypi", {"format": "conda", "name": "a/b"},
     "only a pypi channel has a name of two parts (user/index); write one without a slash"),
    ("a name that is too long", {"name": "a" * 129}, "spec.name: Too long: may not be more than 128 bytes"),
    ("a title of two lines", {"title": "one\ntwo"},
     "title is one line, with no control characters; put the rest into description"),
    ("a title that is too long", {"title": "a" * 201}, "spec.title: Too long: may not be more than 200 bytes"),
    ("a description that is too long", {"description": "a" * 10_001}, "spec.description: Too long"),
    ("a visibility that nobody knows", {"visibility": "everyone"},
     'Unsupported value: "everyone": supported values: "public", "internal", "private"'),
    ("a visibility that is a number", {"visibility": 7}, "spec.visibility"),
    ("a field that is misspelled", {"visiblity": "public"}, '.spec.visiblity: field not declared in schema'),
    ("a subject without its kind", grant(subjects=["ada"]), SUBJECT),
    ("no subject", grant(subjects=[]), "should have at least 1 items"),
    ("a role that nobody knows", grant(role="Admin"),
     'Unsupported value: "Admin": supported values: "Reader", "Publisher", "Maintainer", "Owner"'),
    ("no role", {"permissions": [{"subjects": ["user:ada"]}]}, "spec.permissions[0].role: Required value"),
    ("too many permissions", {"permissions": [ADA] * 501},
     "spec.permissions: Too many: 501: must have at most 500 items"),
    ("too many subjects", grant(subjects=["user:ada"] * 501), "spec.permissions[0].subjects: Too many: 501"),
    ("a pattern that is too long", grant(packages=["a" * 257]),
     "spec.permissions[0].packages[0]: Too long: may not be more than 256 bytes"),
    ("a proxy of Python packages", {"source": {"proxy": {"url": "https://upstream.example/x"}}}, NOT_SERVED),
    ("a mirror of Python packages", {"source": {"mirror": {"url": "https://upstream.example/x"}}}, NOT_SERVED),
    ("a proxy of nothing", {"format": "conda", "source": {"proxy": {}}}, "spec.source.proxy.url: Required value"),
    ("other channels as one", {"source": {"virtual": {"channels": ["a"]}}}, NOT_SERVED),
    ("settings of another format", {"format": "conda", "pypi": {"allowOverwrite": True}},
     "these are settings of a pypi channel; remove them or write format: pypi"),
    ("settings of a format that has none", {"conan": {}},
     "these are settings of a conan channel; remove them or write format: conan"),
    ("a size with a space", {"limits": {"maxUploadSize": "5 GB"}}, SIZE),
    ("a size below nothing", {"limits": {"maxUploadSize": -1}}, SIZE),
    ("a bucket in upper case", {"bucket": {"name": "Old_Wheels"}}, BUCKET),
    ("a bucket's name that is too short", {"bucket": {"name": "ab"}}, "spec.bucket.name: Invalid value"),
    ("a key without its kind of encryption", {"bucket": {"encryption": {"kmsKeyId": "k"}}},
     "a key goes with type: aws:kms; write that or remove kmsKeyId"),
    ("an encryption that nobody knows", {"bucket": {"encryption": {"type": "DES"}}},
     'Unsupported value: "DES": supported values: "none", "AES256", "aws:kms"'),
    ("no day for unfinished uploads", {"bucket": {"lifecycle": {"abortIncompleteUploadsAfterDays": 0}}},
     "should be greater than or equal to 1"),
    ("more than a year for unfinished uploads", {"bucket": {"lifecycle": {"abortIncompleteUploadsAfterDays": 366}}},
     "should be less than or equal to 365"),
    ("a deletion policy that nobody knows", {"deletionPolicy": "Keep"},
     'Unsupported value: "Keep": supported values: "Retain", "Delete"'),
]

# The same of a registry.
BAD_REGISTRIES = [
    ("a database without an object store", {"database": SECRET},
     "give both database and objectStore, or neither: the operator then runs a store of its own"),
    ("an object store without a database", {"objectStore": SECRET}, "give both database and objectStore, or neither"),
    ("a connection string in the open", both({"url": "postgresql://u:p@db/granary"}),
     "a connection string does not belong in an object: put it into a Secret"),
    ("a direct connection string in the open", both({"directUrl": "postgresql://u:p@db/granary"}),
     "a connection string does not belong in an object"),
    ("a database without its Secret", {"database": {}, "objectStore": SECRET},
     "name the Secret that holds the connection string: secretRef: {name: NAME}"),
    ("a schema of Postgres", both({"schema": "public"}),
     "write a schema of its own: public, information_schema and pg_* belong to Postgres"),
    ("a schema that begins as those of Postgres", both({"schema": "pg_granary"}), "write a schema of its own"),
    ("a schema in upper case", both({"schema": "Granary"}), "spec.database.schema: Invalid value"),
    ("authorities of nowhere", both({"caRef": {"key": "ca.crt"}}), "name either a configMap or a secret"),
    ("authorities of two places", both({"caRef": {"configMap": "a", "secret": "b"}}),
     "name either a configMap or a secret"),
    ("an access key in the open", both(store={"accessKeyId": "AKIA"}),
     "an access key does not belong in an object: put it into a Secret"),
    ("a bucket prefix in upper case", both(store={"bucketPrefix": "Acme_"}),
     "the bucket prefix is lower-case letters, digits and '-', beginning with a letter or a digit"),
    ("a bucket suffix that ends with a dash", both(store={"bucketSuffix": "-x-"}),
     "the bucket suffix is lower-case letters, digits and '-', ending with a letter or a digit"),
    ("a long prefix and suffix", both(store={"bucketPrefix": "a" * 20, "bucketSuffix": "b" * 20}),
     "bucketPrefix and bucketSuffix have at most 32 characters together"),
    ("no region", both(store={"region": ""}), "name a region; stores that know none take us-east-1"),
    ("an endpoint that is no URL", both(store={"endpoint": "s3.example.com"}), URL),
    ("a host in upper case", {"host": "Packages.Example.com"}, HOST_NAME),
    ("a host with a port", {"host": "packages.example.com:443"}, HOST_NAME),
    ("an address in place of a host", {"host": "192.0.2.7"}, HOST_NAME),
    ("a certificate without a host", {"tls": {"secretName": "tls"}},
     "a certificate needs a host: write host: packages.example.com"),
    ("a gateway without a host", {"gateway": {"parentRefs": [{"name": "public"}]}},
     "a gateway needs a host to route: write host: packages.example.com"),
    ("a certificate from nowhere", {**HOST, "tls": {}},
     "name the Secret of the certificate (secretName), or the cert-manager issuer that makes it (issuer)"),
    ("an issuer of a kind that nobody knows", {**HOST, "tls": {"issuer": {"name": "x", "kind": "Authority"}}},
     'Unsupported value: "Authority"'),
    ("fewer than no pods", {"replicas": -1}, "should be greater than or equal to 0"),
    ("more pods at least than at most", {"autoscaling": {"minReplicas": 5, "maxReplicas": 2}},
     "minReplicas is at most maxReplicas"),
    ("a span of time in words", {"backupRetention": "a week"}, SPAN),
    ("a span of time without a unit", {"limits": {"drainTimeout": "30"}}, SPAN),
    ("a size in words", {"limits": {"maxUploadSize": "large"}}, SIZE),
    ("a network that is none", {"proxy": {"trusted": ["10.0.0.0/33"]}},
     "write an address or a network such as 10.0.0.0/8, 192.0.2.7 or fd00::/8"),
    ("an admin without a password", {"admins": {"initial": {"name": "admin"}}},
     "name the Secret that holds the admin's password: passwordSecretRef: {name: NAME, key: password}"),
    ("a public URL that is none", {"publicUrl": "packages.example.com"}, URL),
    ("a pull policy that nobody knows", {"imagePullPolicy": "Sometimes"}, 'Unsupported value: "Sometimes"'),
    ("a field of a server's file", {"listen": ["0.0.0.0:80"]}, ".spec.listen: field not declared in schema"),
]

# A stored spec, a change of it, and what the server says. None takes the field away.
UNCHANGEABLE = [
    ("format", {}, {"format": "conda"}, "format never changes: delete the object and make another"),
    ("name", {"name": "one"}, {"name": "two"}, "name never changes: delete the object and make another"),
    ("name-added", {}, {"name": "two"}, "name never changes"),
    ("name-removed", {"name": "one"}, {"name": None}, "name never changes"),
    ("registry", {}, {"registryRef": {"name": "other"}},
     "registryRef never changes: delete the object and make another"),
    ("bucket", {"bucket": {"name": "old-wheels"}}, {"bucket": {"name": "new-wheels"}},
     "a channel keeps its bucket: bucket.name never changes"),
    ("bucket-added", {}, {"bucket": {"name": "new-wheels"}}, "bucket.name never changes"),
    ("bucket-removed", {"bucket": {"name": "old-wheels"}}, {"bucket": {"name": None}}, "bucket.name never changes"),
]
UNCHANGEABLE_OF_REGISTRY = [
    ("schema", {"database": {"schema": "other"}},
     "schema never changes: the tables stay where they are; make another PackageRegistry"),
    ("prefix", {"objectStore": {"bucketPrefix": "other-"}},
     "bucketPrefix and bucketSuffix never change: the channels' buckets are named by them"),
    ("suffix", {"objectStore": {"bucketSuffix": "-other"}}, "bucketPrefix and bucketSuffix never change"),
]


def refusals(kube: Kube, objects: list[dict]) -> list[str]:
    """Why the server refuses each of these objects, in one run of kubectl, which goes on after an error; empty where it does not.
    As texts, since kubectl looks through a list before the server may."""
    named = [{**found, "metadata": {"name": f"bad-{number}"}} for number, found in enumerate(objects)]
    try:
        kube.run("apply", "--server-side", "--dry-run=server", "--filename=-", input="\n---\n".join(map(json.dumps, named)))
        said = ""
    except KubeError as error:
        said = str(error)
    about = re.split(r"^(?=Error from server)", said, flags=re.MULTILINE)
    return ["".join(text for text in about if re.search(rf"[\"/]{found['metadata']['name']}[\";]", text)) for found in named]


def names(rows: list[tuple]) -> list[str]:
    """What pytest calls the rows."""
    return [row[0].replace(" ", "-") for row in rows]


def a_channel(spec: dict, name: str = "tools") -> dict:
    """A channel with this spec; fields that are None are left out."""
    made = channel(name)
    made["spec"] = {key: value for key, value in {**made["spec"], **spec}.items() if value is not None}
    return made


@pytest.fixture(scope="module")
def there(operator: Kube, cluster: Kube) -> Iterator[Kube]:
    """A namespace for all that is refused."""
    made = cluster.make_namespace("admission")
    yield made
    cluster.delete(f"namespace/{made.namespace}", wait=False)


@pytest.fixture(scope="module")
def said_of(there: Kube) -> dict[str, str]:
    """What the server says of each row of the two tables."""
    channels = [a_channel(spec) for _, spec, _ in BAD_CHANNELS]
    registries = [package_registry("main", **spec) for _, spec, _ in BAD_REGISTRIES]
    return dict(zip(names(BAD_CHANNELS + BAD_REGISTRIES), refusals(there, channels + registries), strict=True))


@pytest.mark.parametrize(("what", "message"), [(row[0], row[2]) for row in BAD_CHANNELS + BAD_REGISTRIES],
                         ids=names(BAD_CHANNELS + BAD_REGISTRIES))
def test_a_bad_spec_is_refused(said_of: dict[str, str], what: str, message: str):
    """Each with a message that says what to write instead, or names the field."""
    assert message in said_of[what.replace(" ", "-")]


def test_a_long_name_of_an_object_wants_a_name_of_the_channel(there: Kube):
    """Kubernetes takes longer names of objects than URLs have of channels."""
    long = "a" * 129
    assert "write a shorter one in spec.name" in there.refusal(channel(long))
    there.apply(a_channel({"name": "short"}, long), dry_run=True)


@pytest.mark.parametrize(("what", "before", "change", "message"), UNCHANGEABLE, ids=names(UNCHANGEABLE))
def test_what_a_channel_keeps(there: Kube, what: str, before: dict, change: dict, message: str):
    """Format, name, registry and bucket stay: rows and buckets carry them. All else may change."""
    there.apply(a_channel(before, f"keeps-{what}"))
    with pytest.raises(KubeError) as refused:
        there.patch(f"pkgch/keeps-{what}", {"spec": change})
    assert message in str(refused.value)
    there.patch(f"pkgch/keeps-{what}", {"spec": {"visibility": "public", "deletionPolicy": "Delete"}})


def test_what_a_registry_keeps(there: Kube):
    """The schema and the words around the buckets' names. It is paused, so that nothing else comes of it."""
    there.apply(package_registry("keeps", paused=True, **both(store={"bucketPrefix": "acme-"})))
    for _, change, message in UNCHANGEABLE_OF_REGISTRY:
        with pytest.raises(KubeError) as refused:
            there.patch("pkgreg/keeps", {"spec": change})
        assert message in str(refused.value)
    there.patch("pkgreg/keeps", {"spec": {"replicas": 3, "objectStore": {"region": "eu-central-1"}}})


def test_a_server_tells_all_that_is_wrong_at_once(there: Kube):
    """Who writes three mistakes need not apply three times."""
    told = there.refusal(a_channel({"title": "a\nb", "name": "-", **grant(subjects=["ada"])}))
    assert all(message in told for message in (NAME, SUBJECT, "title is one line"))


def written() -> list[tuple[Path, dict]]:
    """Our objects in deploy/, and those that the documentation shows as good."""
    found = []
    # What an overlay makes of its base counts, not the parts.
    for path in sorted((CHECKOUT / "deploy").rglob("*.yaml")):
        if "kustomize" not in path.parts:
            found += ours(path, path.read_text())
    for path in sorted((CHECKOUT / "deploy" / "kustomize" / "overlays").iterdir()):
        found += ours(path, run("kubectl", "kustomize", path))
    for path in [CHECKOUT / "README.md", *sorted(CHECKOUT.glob("docs/*.md")), *sorted(CHECKOUT.glob("deploy/*.md"))]:
        # A block that is shown as wrong says so after its language.
        for block in re.findall(r"^```yaml\n(.*?)^```", path.read_text(), re.DOTALL | re.MULTILINE):
            found += ours(path, block)
    return found


def ours(path: Path, text: str) -> list[tuple[Path, dict]]:
    """The objects of our group in a text."""
    documents = yaml.safe_load_all(text)
    return [(path.relative_to(CHECKOUT), document) for document in documents
            if isinstance(document, dict) and document.get("apiVersion") == API]


def for_a_file(document: dict) -> bool:
    """Written for a server without Kubernetes: it is its channels' registry, and has its secrets in files."""
    spec = document["spec"]
    return "registryRef" not in spec if document["kind"] == "Channel" else "urlFile" in spec.get("database", {})


def test_what_we_show_is_accepted(there: Kube):
    """Everything in deploy/ and in the documentation, but for what is written for a server without Kubernetes."""
    shown = [(where, document) for where, document in written() if not for_a_file(document)]
    assert len(shown) >= 12 and {document["kind"] for _, document in shown} == {"Channel", "PackageRegistry"}
    for (where, document), said in zip(shown, refusals(there, [document for _, document in shown]), strict=True):
        assert not said, f"{where}: {said}\n{json.dumps(document, indent=2)}"


GOOD = [
    {"permissions": [{"subjects": ["user:ada"], "role": "Reader", "packages": ["acme-*"]}] * 500},
    {"name": "user/index", "visibility": "internal", "limits": {"maxUploadSize": "4Gi"}},
    {"format": "conda", "limits": {"maxUploadSize": 1073741824}, "conda": {}},
    {"bucket": {"name": "old-wheels", "adopt": True, "encryption": {"type": "aws:kms", "kmsKeyId": "k"}}},
    {"source": {"hosted": {}}, "adopt": True, "title": "Werkzeuge für alle", "description": "one\ntwo"},
]


def test_good_channels_are_accepted(there: Kube):
    """At the edges of what the rules allow; five hundred permissions are within the cost of the rules."""
    assert refusals(there, [a_channel(spec) for spec in GOOD]) == [""] * len(GOOD)


def test_defaults_are_those_of_the_documentation(there: Kube):
    """What a user leaves out, the object says afterwards."""
    made = there.apply(channel("tools"), dry_run=True)[0]["spec"]
    assert (made["visibility"], made["deletionPolicy"], made["adopt"], made["permissions"]) == ("private", "Retain", False, [])
    assert made["bucket"] == {"adopt": False, "encryption": {"type": "none"}, "lifecycle": {"abortIncompleteUploadsAfterDays": 2}}
    registry = there.apply(package_registry("main"), dry_run=True)[0]["spec"]
    assert (registry["replicas"], registry["paused"], registry["backupRetention"]) == (2, False, "7d")
