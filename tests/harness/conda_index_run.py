"""Runs conda-index, within its environment: `conda_index_run.py CHANNEL [PATCHES]`, or reads shards: `… --shards FOLDER`.

conda-index asks conda for the order of versions and for what a dependency matches; here py-rattler answers. Shards are printed
as JSON, digests in hex.
"""

import functools
import json
import sys
import types
from pathlib import Path


def _conda() -> None:
    """Puts modules in the place of those of conda."""
    from rattler import MatchSpec as RattlerSpec
    from rattler import BuildString, PackageRecord, Version

    @functools.total_ordering
    class VersionOrder:
        def __init__(self, text: str):
            self.version = Version(text)

        def __eq__(self, other: object) -> bool:
            return self.version == other.version

        def __lt__(self, other: object) -> bool:
            return self.version < other.version

    class Channel:
        def __init__(self, url: str):
            self._url = url

        def url(self, with_credentials: bool = False) -> str:
            return self._url

    class Record:
        def __init__(self, fn: str, fields: dict):
            self.fn, self.name, self.version, self.build = fn, fields["name"], fields["version"], fields["build"]
            self.depends = fields.get("depends", [])
            self.track_features, self.features = fields.get("track_features"), fields.get("features")
            self.key = (VersionOrder(self.version), fields.get("build_number", 0), fields.get("timestamp", 0), self.build)
            self.record = PackageRecord(name=self.name, version=self.version, build=BuildString(self.build),
                                        build_number=fields.get("build_number", 0), subdir=fields["subdir"])

        def __deepcopy__(self, _memo: dict) -> "Record":
            return self

    class SubdirData:
        _cache_: dict = {}

        def __init__(self, channel: Channel):
            self._package_records: list[Record] = []

        def _process_raw_repodata(self, repodata: dict) -> None:
            conda = repodata["packages.conda"]
            twins = {f"{name[:-6]}.tar.bz2" for name in conda}
            old = {name: fields for name, fields in repodata["packages"].items() if name not in twins}
            self._package_records = [Record(name, fields) for name, fields in {**conda, **old}.items()]

    class MatchSpec:
        def __init__(self, spec: str):
            self.spec = RattlerSpec(spec)
            self.name = spec.split("[")[0].split("::")[-1].replace("=", " ").split()[0]

    class Resolve:
        def __init__(self, index: dict, channels: tuple = ()):
            self.groups: dict[str, list[Record]] = {}
            for record in index:
                self.groups.setdefault(record.name, []).append(record)
            for group in self.groups.values():
                group.sort(key=lambda record: record.key, reverse=True)

        def find_matches(self, spec: MatchSpec) -> tuple[Record, ...]:
            return tuple(record for record in self.groups.get(spec.name, ()) if spec.spec.matches(record.record))

    contents = {
        "conda": {}, "conda.base": {}, "conda.core": {}, "conda.models": {},
        "conda.base.constants": {"PLATFORM_DIRECTORIES": ("noarch", "linux-64", "linux-aarch64", "osx-64", "osx-arm64", "win-64")},
        "conda.base.context": {"context": types.SimpleNamespace(arch_name="x86_64", platform="linux")},
        "conda.models.version": {"VersionOrder": VersionOrder}, "conda.models.channel": {"Channel": Channel},
        "conda.core.subdir_data": {"SubdirData": SubdirData},
        "conda.exports": {"MatchSpec": MatchSpec, "Resolve": Resolve, "VersionOrder": VersionOrder},
    }
    for name, names in contents.items():
        module = types.ModuleType(name)
        module.__dict__.update(names)
        sys.modules[name] = module


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {key: _plain(field) for key, field in value.items()}
    return [_plain(field) for field in value] if isinstance(value, list) else value


def shards(folder: Path) -> dict[str, dict]:
    """What the shards of a subdir hold, by their names."""
    import msgpack
    from backports import zstd

    index = msgpack.unpackb(zstd.decompress((folder / "repodata_shards.msgpack.zst").read_bytes()))
    return {name: _plain(msgpack.unpackb(zstd.decompress((folder / f"{digest.hex()}.msgpack.zst").read_bytes())))
            for name, digest in index["shards"].items()}


def main(channel: Path, patches: str | None = None) -> None:
    _conda()
    from conda_index.index import ChannelIndex

    index = ChannelIndex(channel, channel.name, threads=1, write_run_exports=True, write_shards=True)
    index.index(patch_generator=patches)
    index.update_channeldata(rss=True)
    print(json.dumps({subdir: shards(channel / subdir) for subdir in index.subdirs}))


if __name__ == "__main__":
    if sys.argv[1] == "--shards":
        print(json.dumps(shards(Path(sys.argv[2]))))
    else:
        main(Path(sys.argv[1]), *sys.argv[2:])
