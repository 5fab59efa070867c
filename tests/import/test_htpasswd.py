"""`granary import htpasswd`."""

from pathlib import Path

import yaml

from tests.harness.importing import granary_import

PEOPLE = """ada:$2y$05$c4WoMPo3SXsafkva.HHa6uXQZWr7oboPiC2bT/r7q1BB8I2s0BRqC
bob:$apr1$r31.....$HqJZimcKQFAMYayBlzkrA/
eve:{SHA}VBPuJHI7uixaa6LQGWx4s+5GKNE=
"""


def test_a_file_goes_on_to_be_read(tmp_path: Path) -> None:
    file = tmp_path / "people.htpasswd"
    file.write_text(PEOPLE)
    run = granary_import("htpasswd", file, "--strict")
    assert run.code == 0, run.report
    assert yaml.safe_load(run.yaml) == {"identity": {"authenticators": [{"name": "htpasswd", "htpasswd": {"key": "people.htpasswd"}}]}}
    for line in ("ada (bcrypt)", "bob (apr1)", "eve (SHA-1)"):
        assert f"carried over: {line}\n" in run.report
    file.write_text(PEOPLE + "mal:rqXexS6ZhobKA\n")
    run = granary_import("htpasswd", file, "--strict", "--authenticator", "apache")
    assert run.code == 2 and "not carried over: mal: " in run.report and "rqXexS6ZhobKA" not in run.report
    assert yaml.safe_load(run.yaml)["identity"]["authenticators"][0]["name"] == "apache"
