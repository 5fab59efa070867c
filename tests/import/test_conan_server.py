"""`granary import conan-server` beside conan_server itself: its parser, and its authorizer over generated rules."""

import random
import stat
from pathlib import Path

import pytest
import yaml

from tests.harness.importing import granary_import, oracle, table

NAMES = ["*", "*", "*", "aa", "bb", "Aa"]
VERSIONS = ["*", "*", "*", "1.0", "1.0.0", "01.0", "2.x", "0.0", "1.0-rc.0", "1.0+b1", "1"]
HOMES = ["", "@", "@*/*", "@*/*", "@*/*", "@ada/*", "@*/testing", "@ada/testing", "@bob/*", "@_/_", "@_/*", "@ada", "@*/_"]
ODD = ["nothing", "aa*/1.0@*/*", "a?/*@*/*", '"aa/*@*/*"', "aa/1.0@ada/testing#r1", "aa/1.0@ada/testing#r-1", "aa/[>1]@*/*",
       "aa/1.0@ada/testing%12", "aa/1/2@*/*", "/1.0@*/*", "aa/ 1.0@*/*", "bb/1.0@a/b/c", "bb/1.0@x@y", "bb/1_0.0@*/*"]
USERS = ["*", "?", "ada", "bob", "ada, bob", "ada,bob , eve", "ada, *", "", "*, ada", "eve", "?, bob", "no name", "ada\n   , eve",
         "%(everybody)s"]


def section(rng: random.Random) -> str:
    """A list of rules, each pattern once, as the parser wants it."""
    patterns = []
    for _ in range(rng.randrange(7)):
        odd = rng.random() < 0.08
        patterns.append(rng.choice(ODD) if odd else f"{rng.choice(NAMES)}/{rng.choice(VERSIONS)}{rng.choice(HOMES)}")
    separators = [": ", ":", " = ", "="]
    return "".join(f"{pattern}{rng.choice(separators)}{rng.choice(USERS)}\n" for pattern in dict.fromkeys(patterns))


def generated(rng: random.Random) -> str:
    return (
        f"[server]\nport: 9300\n[write_permissions]\n{section(rng)}everybody: ada, bob\n\n"
        f"[read_permissions]\n{section(rng)}everybody: ada, bob\n[users]\nada: pw-ada\nbob = pw:bob=1\n")


@pytest.mark.parametrize("version", [1, 2])
def test_the_authorizer_answers_as_the_importer_does(tmp_path: Path, version: int) -> None:
    rng = random.Random(20 + version)
    folders = []
    for number in range(60):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "server.conf").write_text(generated(rng))
        run = granary_import("conan-server", folder / "server.conf", "--server-version", version, "--prove", "--table", folder / "table")
        assert run.code == 0, run.report
        assert ", 0 not\n" in run.report
        folders.append(folder)
    answers = oracle(f"conan-server-{version}", "conan_rules.py", *folders)
    compared = 0
    for folder in folders:
        answer = answers[str(folder)]
        assert answer["starts"], answer
        assert not answer["differing"], ((folder / "server.conf").read_text(), answer["differing"][:3])
        compared += answer["compared"]
    allowed = sum(row["allowed"] for folder in folders for row in table(folder / "table"))
    assert compared > 50_000 and allowed > 5_000
    print(f"conan_server {version}: {compared} questions answered alike")


FILES = {
    "indented": "  [users]\n  ada: x\n    y\n  [read_permissions]\n  [write_permissions]\n",
    "equals": "[users]\nada=a=b:c\n[read_permissions]\n[write_permissions]\n",
    "comments": "; c\n[users]\n# c\nada: x # no comment\n[read_permissions]\n[write_permissions]\n",
    "defaults": "[DEFAULT]\nada: x\nbob: 1\n[users]\nbob: y\n[read_permissions]\n[write_permissions]\n",
    "percent": "[users]\nada: 100%%\nbob: %(ada)s\n[read_permissions]\n[write_permissions]\n",
    "case": "[users]\nAda: x\nada: y\n[read_permissions]\n[write_permissions]\n",
    "continued after a blank": "[users]\nada: x\n\n  y\nbob: z\n[read_permissions]\n[write_permissions]\n",
    "brackets": "[users]\nada: x\n[a] b]\nc: d\n[read_permissions]\n[write_permissions]\n",
    "bad percent": "[users]\nada: 100%\n[read_permissions]\n[write_permissions]\n",
    "unknown name": "[users]\nada: %(nobody)s\n[read_permissions]\n[write_permissions]\n",
    "endless": "[users]\nada: %(ada)s\n[read_permissions]\n[write_permissions]\n",
    "twice": "[users]\nada: x\nada: y\n[read_permissions]\n[write_permissions]\n",
    "section twice": "[users]\n[users]\n[read_permissions]\n[write_permissions]\n",
    "no section": "ada: x\n[users]\n[read_permissions]\n[write_permissions]\n",
    "missing": "[users]\n[read_permissions]\n",
    "no value": "[users]\nada\n[read_permissions]\n[write_permissions]\n",
    "no key": "[users]\n: x\n[read_permissions]\n[write_permissions]\n",
}


def test_files_are_read_as_its_parser_reads_them(tmp_path: Path) -> None:
    read = {}
    for name, text in FILES.items():
        folder = tmp_path / name
        folder.mkdir()
        (folder / "server.conf").write_text(text)
        run = granary_import("conan-server", folder / "server.conf", "--users-file", folder / "users")
        lines = (folder / "users").read_text().splitlines() if (folder / "users").exists() else []
        read[folder] = dict(line.split(": ", 1) for line in lines) if run.code == 0 else None
        assert run.code == 0 or "conan_server would not start" in run.report, run.report
    for version in (1, 2):
        answers = oracle(f"conan-server-{version}", "conan_rules.py", *read)
        for folder, users in read.items():
            answer = answers[str(folder)]
            assert answer["starts"] == (users is not None), (folder.name, answer)
            if users is not None:
                # A password of several lines has no line of its own here, and is reported.
                assert users == {name: word for name, word in answer["users"].items() if "\n" not in word}, folder.name


CONF = """[server]
jwt_secret: J3wtSecret
jwt_expire_minutes: 120
ssl_enabled: False
port: 9300
host_name: localhost
disk_storage_path: ./data
updown_secret: UpDownSecret
custom_authenticator:
[write_permissions]
secret/*@*/*: ada
*/*@*/*: ada, bob
[read_permissions]
secret/*@*/*: ada
*/*@*/*: *
[users]
ada: hunter2
bob: swordfish
"""


def test_what_is_printed_and_where(tmp_path: Path) -> None:
    conf, users = tmp_path / "server.conf", tmp_path / "users"
    conf.write_text(CONF)
    run = granary_import("conan-server", conf, "--channel", "libs", "--registry", "packages", "--namespace", "tools",
                         "--users-file", users, "--prove", "--strict")
    assert run.code == 0, run.report
    assert yaml.safe_load(run.yaml) == {
        "apiVersion": "granary.dev/v1alpha1", "kind": "Channel", "metadata": {"name": "libs", "namespace": "tools"},
        "spec": {"registryRef": {"name": "packages"}, "format": "conan", "visibility": "private", "permissions": [
            {"subjects": ["anonymous"], "role": "Reader", "except": ["secret/*@*/*"]},
            {"subjects": ["user:ada"], "role": "Maintainer", "packages": ["secret/*@*/*"]},
            {"subjects": ["user:ada", "user:bob"], "role": "Maintainer", "except": ["secret/*@*/*"]},
        ]},
    }
    assert users.read_text() == "ada: hunter2\nbob: swordfish\n"
    assert stat.S_IMODE(users.stat().st_mode) == 0o600
    for option in ("jwt_secret", "jwt_expire_minutes", "ssl_enabled", "port", "host_name", "disk_storage_path", "updown_secret"):
        assert f"set elsewhere now: {option}: " in run.report
    for secret in ("J3wtSecret", "UpDownSecret", "hunter2", "swordfish"):
        assert secret not in run.yaml + run.report
    again = granary_import("conan-server", conf, "--users-file", users)
    assert again.code == 1 and users.read_text() == "ada: hunter2\nbob: swordfish\n", "a file that is there is left alone"


def test_what_is_lost_fails_a_strict_import(tmp_path: Path) -> None:
    conf = tmp_path / "server.conf"
    conf.write_text(CONF.replace("custom_authenticator:", "custom_authenticator: ldap"))
    run = granary_import("conan-server", conf, "--strict")
    assert run.code == 2 and "not carried over: custom_authenticator ldap" in run.report
    assert granary_import("conan-server", conf).code == 0
    conf.write_text(CONF)
    run = granary_import("conan-server", conf, "--strict")
    assert run.code == 2 and "the passwords of 2 accounts" in run.report
    run = granary_import("conan-server", conf, "--users-file", tmp_path / "users", "--strict", variables={"CONAN_SERVER_USERS": "eve:x"})
    assert run.code == 0 and (tmp_path / "users").read_text() == "eve: x\n"
