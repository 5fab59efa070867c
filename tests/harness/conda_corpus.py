"""A channel of hundreds of packages in five subdirs: what real ones say, and what odd ones do."""

import importlib.metadata
import json
import random
import re

from .conda_packages import Package

SUBDIRS = ("linux-64", "linux-aarch64", "noarch", "osx-arm64", "win-64")
_VERSIONS = ("0.1", "0.9.6", "0.960923", "1.0a1", "1.0rc2", "1.0", "1.0.post1", "1.9", "1.10", "1.11.0", "1!0.5", "2.0+local.1", "2024.07.12",
             "2.0dev3", "3_1", "1.1.1k")
# In milliseconds, and in seconds where packages are very old.
_BUILT = 1_700_000_000_000


def _real() -> list[Package]:
    """noarch packages of what this Python has installed: names, versions and dependencies that people have written."""
    packages = []
    for dist in sorted(importlib.metadata.distributions(), key=lambda dist: dist.name):
        requires = [re.match(r"([A-Za-z0-9._-]+)\s*(?:\[[^]]*])?\s*\(?([^;)]*)", line) for line in dist.requires or ()]
        depends = [f"{match[1].lower()} {match[2].replace(' ', '')}".strip() for match in requires if match and "extra" not in match.string]
        name, version = re.sub(r"[-_.]+", "-", dist.name).lower(), dist.version
        about = {"summary": dist.metadata["Summary"], "license": dist.metadata["License-Expression"] or dist.metadata["License"],
                 "home": dist.metadata["Home-page"], "description": (dist.metadata.get_payload() or "")[:500], "doc_url": None}
        for build, kind in (("pyhd8ed1ab_0", "conda"), ("py_0", "tar.bz2")):
            packages.append(Package(name, version, build, kind=kind, depends=["python >=3.11", *depends],
                                    index={"noarch": "python", "timestamp": _BUILT + len(packages), "license": "MIT"},
                                    info_files={"info/about.json": json.dumps(about).encode()}))
    return packages


def _recipe(name: str, draw: random.Random) -> bytes:
    source = draw.choice(("", f"source:\n  url: https://upstream.example/{name}.tar.gz\n  sha256: {'0' * 64}\n",
                          f"source:\n  git_url: https://upstream.example/{name}.git\n  git_rev: v1\n",
                          "source:\n  - url: https://upstream.example/a\n  - url: https://upstream.example/b\n"))
    return f"package:\n  name: {name}\n  version: '1.0'\n{source}about:\n  home: https://upstream.example\n".encode()


def _paths(name: str, draw: random.Random) -> bytes:
    choices = ({"_path": f"bin/{name}", "prefix_placeholder": "/opt/placehold", "file_mode": "binary"},
               {"_path": f"bin/{name}.py", "prefix_placeholder": "/opt/placehold", "file_mode": "text"},
               {"_path": f"etc/conda/activate.d/{name}.sh"}, {"_path": f"etc/conda/deactivate.d/{name}.sh"},
               {"_path": f"bin/.{name}-post-link.sh"}, {"_path": f"Scripts/.{name}-pre-unlink.bat"}, {"_path": "share/x"})
    paths = [{"path_type": "hardlink", "sha256": "0" * 64, "size_in_bytes": 1, **path} for path in draw.sample(choices, draw.randint(0, 4))]
    return json.dumps({"paths": paths, "paths_version": 1}).encode()


def corpus(seed: int = 6) -> list[Package]:
    """The packages: always the same ones."""
    draw = random.Random(seed)
    names = [f"acme-{word}" for word in ("app", "base", "cli", "core", "data", "gui", "lib", "math", "net", "old", "py", "sdk", "tool", "web")]
    packages = _real()
    built = _BUILT
    # About is told by every version or by none: what conda-index makes of a mixture follows the order of file names.
    told = {name for name in names if draw.random() < 0.8}
    for subdir in SUBDIRS:
        for name in names:
            is_told = name in told
            for version in sorted(draw.sample(_VERSIONS, draw.randint(2, 5))):
                for number in range(draw.choice((1, 1, 2))):
                    built += 1000
                    kinds = draw.choice((("conda",), ("tar.bz2",), ("conda", "tar.bz2")))
                    other, bound = draw.choice(names), draw.choice(("", " >=1.0", " <1.10", " 1.9.*", " >=1.0,<2", " 1.10|1.9", " !=1.9", " =1.10",
                                                                    " 1.0 h_0", " * h_*", " ~=1.9", " >=99"))
                    index: dict = {"timestamp": built, "constrains": draw.choice((None, [], ["acme-old <0"]))}
                    if draw.random() < 0.1:
                        index["track_features"] = draw.choice(("debug", ["debug", "mkl"], ""))
                    if draw.random() < 0.05:
                        index["features"] = "mkl"
                    if draw.random() < 0.1:
                        index |= {"requires_features": {"x": "y"}, "has_prefix": True, "ucs": 4, "binstar": {}, "machine": "x", "odd": {"a": [None, 1.5]}}
                    if subdir == "noarch":
                        index["noarch"] = draw.choice(("generic", "python"))
                    about = {"summary": f" {name}\n{version} ", "home": "https://upstream.example", "tags": ["a"], "keywords": {},
                             "dev_url": draw.choice(("", "https://upstream.example/dev"))} if is_told else {}
                    exports = draw.choice((None, None, {"weak": [f"{name} >={version}"]}, {"strong": [name], "noarch": [name]}, {}))
                    for kind in kinds:
                        packages.append(Package(
                            name, version, f"h_{number}", subdir, kind, number, [f"{other}{bound}", "acme-base"], exports, index=index,
                            info_files={"info/about.json": json.dumps(about).encode(), "info/paths.json": _paths(name, draw),
                                        **({"info/recipe/meta.yaml": _recipe(name, draw)} if is_told else {})}))
    return packages
