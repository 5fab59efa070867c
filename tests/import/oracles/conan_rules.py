"""Runs in the environment of a conan_server, 1.x or 2.x: reads server.conf files with its own parser and answers a table of
questions with its own authorizer.

    python conan_rules.py FOLDER…

Each folder holds a `server.conf` and a `table`; where the server would not start with the file, there need not be one.
Prints, for each folder, what its parser and its authorizer say otherwise than the table does.
"""

import contextlib
import json
import sys
from pathlib import Path

from conans.server.conf import ConanServerConfigParser
from conans.server.service.authorize import BasicAuthorizer

try:
    from conan.api.model import RecipeReference
    from conan.internal.errors import AuthenticationException, ForbiddenException, InternalErrorException

    def request_reference(*parts: str):
        """As the routes of 2.x make it: `_` stays."""
        return RecipeReference(*parts)

    GENERATION = 2
except ImportError:
    from conans.errors import AuthenticationException, ForbiddenException, InternalErrorException
    from conans.model.ref import ConanFileReference

    def request_reference(*parts: str):
        """As the routes of 1.x make it: `_` is none."""
        return ConanFileReference(*parts)

    GENERATION = 1


def allows(check, user: str | None, reference) -> bool:
    try:
        check(user, reference)
    except (AuthenticationException, ForbiddenException, InternalErrorException):
        return False
    return True


def compare(folder: Path) -> dict:
    # An environment that is not empty, since the parser takes its own for an empty one.
    conf = ConanServerConfigParser(str(folder), environment={"NOTHING": "1"}, is_custom_path=True)
    try:
        authorizer = BasicAuthorizer(conf.read_permissions, conf.write_permissions)
        users = dict(conf.users)
    except Exception as error:  # noqa: BLE001 whatever keeps it from starting
        return {"starts": False, "why": str(error)}
    differing, owned_by_nobody, compared = [], 0, 0
    rows = (folder / "table").read_text().splitlines() if (folder / "table").exists() else []
    for row in map(json.loads, rows):
        name_version, home = row["package"].split("@")
        user = row["user"]
        reference = request_reference(*name_version.split("/"), *home.split("/"))
        if GENERATION == 1 and user is None and reference.user is None:
            # None == None: whoever is not logged in owns what has no user. The importer does not repeat that.
            assert allows(authorizer.check_delete_conan, user, reference)
            owned_by_nobody += 1
            continue
        reads = allows(authorizer.check_read_conan, user, reference)
        answers = {
            "read": reads,
            # Who may not read may not write: see the importer's documentation.
            "publish": reads and allows(authorizer.check_write_conan, user, reference),
            "remove": reads and allows(authorizer.check_delete_conan, user, reference),
        }
        compared += 1
        if answers[row["action"]] != row["allowed"]:
            differing.append(row)
    return {"starts": True, "users": users, "compared": compared, "ownedByNobody": owned_by_nobody, "differing": differing}


with contextlib.redirect_stdout(sys.stderr):
    result = {folder: compare(Path(folder)) for folder in sys.argv[1:]}
print(json.dumps(result))
