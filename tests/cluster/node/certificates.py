"""Authorities and certificates, made with openssl for one cluster."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

# Without a configuration openssl would add extensions of its own choice.
CONFIGURATION = "[req]\ndistinguished_name = dn\n[dn]\n"


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, as PEM files."""

    certificate: Path
    key: Path


def _request(folder: Path, name: str, subject: str, extensions: list[str], *options: str | Path) -> Pair:
    configuration = folder / "openssl.cnf"
    configuration.write_text(CONFIGURATION)
    pair = Pair(folder / f"{name}.crt", folder / f"{name}.key")
    added = [argument for extension in extensions for argument in ("-addext", extension)]
    command = ["openssl", "req", "-x509", "-config", configuration, "-newkey", "ec", "-pkeyopt",
               "ec_paramgen_curve:prime256v1",
               "-nodes", "-days", "30", "-subj", subject, "-keyout", pair.key, "-out", pair.certificate,
               *added, *options]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"openssl: {done.stderr}")
    return pair


def authority(folder: Path, name: str) -> Pair:
    """A certificate authority."""
    return _request(folder, name, f"/CN=granary tests {name}", [
        "basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign",
        "subjectKeyIdentifier=hash"])


def issue(folder: Path, ca: Pair, name: str, subject: str, *alternatives: str) -> Pair:
    """A certificate for servers and clients; `alternatives` as `DNS:granary.test` or `IP:10.0.0.1`."""
    extensions = ["basicConstraints=critical,CA:FALSE", "keyUsage=critical,digitalSignature",
                  "extendedKeyUsage=serverAuth,clientAuth",
                  "subjectKeyIdentifier=hash", "authorityKeyIdentifier=keyid"]
    if alternatives:
        extensions.append(f"subjectAltName={','.join(alternatives)}")
    return _request(folder, name, subject, extensions, "-CA", ca.certificate, "-CAkey", ca.key)
