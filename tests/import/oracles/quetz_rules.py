"""Runs in the environment of a Quetz: answers a table of questions with its own `Rules` over its own database.

    python quetz_rules.py TABLE      with QUETZ_CONFIG_FILE
"""

import contextlib
import json
import os
import sys
import uuid
from pathlib import Path

from fastapi import HTTPException
from quetz.authorization import Rules
from quetz.config import Config
from quetz.database import get_session
from quetz.db_models import Channel, Package, User


def allows(row: dict) -> bool:
    user = db.query(User).filter(User.username == row["user"]).one_or_none() if row["user"] else None
    rules = Rules(None, {"user_id": str(uuid.UUID(bytes=user.id))} if user else {}, db)
    channel = db.query(Channel).filter(Channel.name == row["channel"]).one()
    package = db.query(Package).filter(Package.channel_name == channel.name, Package.name == row["package"]).one_or_none()
    try:
        match row["action"]:
            case "read":
                rules.assert_package_read(package)
            case "publish":
                rules.assert_upload_file(channel.name, row["package"])
            case "remove":
                rules.assert_package_delete(package)
            case "administer":
                rules.assert_add_channel_member(channel.name, "member")
    except HTTPException:
        return False
    return True


with contextlib.redirect_stdout(sys.stderr):
    db = get_session(Config(os.environ["QUETZ_CONFIG_FILE"]).sqlalchemy_database_url)
    rows = [json.loads(line) for line in Path(sys.argv[1]).read_text().splitlines()]
    differing = [row for row in rows if allows(row) != row["allowed"]]
print(json.dumps({"compared": len(rows), "differing": differing}))
