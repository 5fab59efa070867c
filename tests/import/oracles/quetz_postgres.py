"""Runs in the environment of a Quetz: the SQL that makes its tables in Postgres and fills them from its SQLite file.

    python quetz_postgres.py FILE
"""

import json
import sqlite3
import sys

from quetz.db_models import Base, collation
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable
from sqlalchemy.types import Boolean

dialect = postgresql.dialect()
source = sqlite3.connect(sys.argv[1])


def literal(value: object, is_boolean: bool) -> str:
    if value is None:
        return "NULL"
    if is_boolean:
        return "TRUE" if value else "FALSE"
    if isinstance(value, bytes):
        return f"'\\x{value.hex()}'"
    return str(value) if isinstance(value, int) else "'" + str(value).replace("'", "''") + "'"


statements = [str(collation.compile(dialect=dialect))]
for table in Base.metadata.sorted_tables:
    if table.name not in {"users", "profiles", "identities", "channels", "packages", "channel_members", "package_members", "api_keys"}:
        continue
    statements.append(str(CreateTable(table).compile(dialect=dialect)) + ";")
    columns = [column.name for column in table.columns]
    booleans = [isinstance(column.type, Boolean) for column in table.columns]
    for row in source.execute(f"SELECT {', '.join(columns)} FROM {table.name}"):
        values = ", ".join(literal(value, boolean) for value, boolean in zip(row, booleans, strict=True))
        statements.append(f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES ({values});")
print(json.dumps({"sql": "\n".join(statements)}))
