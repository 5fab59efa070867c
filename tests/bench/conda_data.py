"""conda channels of any size, written into the tables of a server that is not running yet or has not looked: a million uploads
would take half an hour. Rows are as uploads leave them; the files themselves are nowhere, and nobody asks for them."""

import json

from tests.harness.conda_packages import Package
from tests.harness.postgres import Postgres

SUBDIR = "linux-64"
# Of these, each package depends on some, as most do.
LIBRARIES = ["libgcc >=14", "libstdcxx >=14", "python >=3.12,<3.13.0a0", "python_abi 3.12.* *_cp312", "numpy >=1.26,<3", "openssl >=3.4.0,<4.0a0"]


def name_of(number: int) -> str:
    """The name of the package of this number."""
    return f"acme-{number:06}"


def uploaded(number: int, version: str = "99.0") -> Package:
    """A package that is uploaded to a channel that is full already."""
    return Package(name_of(number), version, subdir=SUBDIR, depends=LIBRARIES[:3])


def fill(postgres: Postgres, schema: str, channel: str, names: int, versions: int) -> None:
    """Fills a channel with so many versions of so many names, all in one subdir."""
    depends = json.dumps(LIBRARIES).replace("'", "''")
    record = f"""format('{{"build":"h%s_0","build_number":0,"constrains":["%s-static <0"],"depends":%s,"indexed_timestamp":%s,"license":"MIT",'
        '"license_family":"MIT","md5":"%s","name":"%s","sha256":"%s","size":%s,"subdir":"{SUBDIR}","timestamp":%s,"version":"%s"}}',
        left(md5(name || version), 7), name, '{depends}', 1767225600000 + v * 1000, md5(version || name), name,
        encode(sha256((name || version)::bytea), 'hex'), 1000 + v, 1767225600000 + v * 997, version)"""
    postgres.sql(f"""
        set search_path to "{schema}";
        create temporary table filling as
            select (select id from channel where format = 'conda' and channel.name = '{channel}') as channel_id,
                   'acme-' || lpad(n::text, 6, '0') as name, '1.' || v || '.0' as version, n, v
            from generate_series(0, {names - 1}) as n, generate_series(1, {versions}) as v;
        insert into blob (channel_id, sha256, md5, blake2b256, size, object_key, refs)
            select channel_id, sha256((name || version)::bytea), decode(md5(version || name), 'hex'), sha256((version || name)::bytea),
                   1000 + v, 'absent/' || name || '/' || version, 1 from filling;
        insert into conda_package (channel_id, subdir, name, filename, version, build, build_number, record, blob_id, uploaded_by, uploaded_at)
            select f.channel_id, '{SUBDIR}', name, name || '-' || version || '-h' || left(md5(name || version), 7) || '_0.conda', version,
                   'h' || left(md5(name || version), 7) || '_0', 0, {record}, b.id, 'bench', now()
            from filling f join blob b on b.channel_id = f.channel_id and b.object_key = 'absent/' || f.name || '/' || f.version;
        -- Shards of the length that they have; those that are asked for are written by an upload.
        insert into conda_shard (channel_id, sha256, subdir, name, bytes)
            select channel_id, sha256(name::bytea), '{SUBDIR}', name, decode(repeat(md5(name), 15 + {versions} * 3), 'hex')
            from filling where v = 1;
        insert into conda_name (channel_id, subdir, name, shard, changed_at)
            select channel_id, '{SUBDIR}', name, sha256(name::bytea), '2026-01-01' from filling where v = 1;
        drop table filling;
        analyze conda_package; analyze conda_name; analyze conda_shard; analyze blob;""")
