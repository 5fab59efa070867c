"""Runs in the environment of a Quetz: people, channels, packages, members and API keys in its database, by its own models.

    python quetz_fill.py PLAN        with QUETZ_CONFIG_FILE

The plan is JSON: users {name: role}, channels {name: private}, members [channel, user, role], packageMembers [channel, package,
user, role].
"""

import json
import os
import sys
import uuid
from pathlib import Path

from quetz.config import Config
from quetz.dao import Dao
from quetz.database import get_session
from quetz.db_models import Channel, ChannelMember, Identity, Package, PackageMember, Profile, User
from quetz.rest_models import BaseApiKey, CPRole

plan = json.loads(Path(sys.argv[1]).read_text())
config = Config(os.environ["QUETZ_CONFIG_FILE"])
db = get_session(config.sqlalchemy_database_url)
users = {}
for number, (name, role) in enumerate(plan["users"].items()):
    user = User(id=uuid.uuid4().bytes, username=name, role=role)
    user.identities.append(Identity(provider="dummy", identity_id=str(number), username=name))
    user.profile = Profile(name=name, avatar_url="/a.jpg")
    db.add(user)
    users[name] = user
for name, private in plan["channels"].items():
    channel = Channel(name=name, description=f"about {name}", private=private)
    for package in plan["packages"]:
        channel.packages.append(Package(name=package, summary="s", description="d"))
    db.add(channel)
db.commit()
for channel, user, role in plan["members"]:
    db.add(ChannelMember(channel_name=channel, user_id=users[user].id, role=role))
for channel, package, user, role in plan["packageMembers"]:
    db.add(PackageMember(channel_name=channel, package_name=package, user_id=users[user].id, role=role))
db.commit()
dao = Dao(db)
for owner, description, roles in plan["keys"]:
    key = BaseApiKey(description=description, expire_at=None, roles=[CPRole(**role) for role in roles])
    dao.create_api_key(users[owner].id, key, f"secret-key-of-{description}")
print(json.dumps({"users": len(users)}))
