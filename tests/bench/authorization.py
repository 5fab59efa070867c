"""What it costs to know who asks and what they may: the same warm request by nobody in particular and by somebody with a token."""

import statistics
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

from tests.harness.accounts import create_user
from tests.harness.dists import wheel
from tests.harness.server import Dev
from tests.harness.wire import basic

from . import data
from .load import Line, wrk

# The most grants that a channel may have.
MOST_GRANTS = 500
# So many channels are as full, beside the one that is asked.
FULL_CHANNELS = 19

ACCOUNT, GROUP, PASSWORD = "reader", "readers", "correct horse battery staple"
FILE = wheel("acme-authorized", payload=data.noise(8000))


def others(count: int) -> list[dict]:
    """Grants of all forms for others than the account, or for it and other packages."""
    forms = (["user:nobody-{0}"], ["group:team-{0}", "user:somebody-{0}"], ["serviceaccount:ci/job-{0}"],
             ["workload:ci?repository=acme/tool-{0}&ref=refs/tags/*"], [f"group:{GROUP}"])
    grants = []
    for number in range(count):
        subjects = forms[number % len(forms)]
        grant = {"subjects": [subject.format(number) for subject in subjects], "role": "Publisher", "packages": [f"tool-{number}-*"]}
        grants.append({**grant, "except": [f"tool-{number}-secret*"]} if number % 2 else grant)
    return grants


def private(grants: int) -> dict:
    """A channel in which the last of so many grants is the one that lets the account read."""
    return {"format": "pypi", "visibility": "private",
            "permissions": [*others(grants - 1), {"subjects": [f"group:{GROUP}"], "role": "Reader", "packages": ["acme-*"]}]}


@dataclass
class Case:
    """A request that is compared with others."""

    name: str
    url: str
    headers: dict[str, str]


# Requests in a row of one kind: the first of them wake up what has slept meanwhile, and are not counted.
BLOCK, WAKING = 100, 20


def latencies(cases: list[Case], blocks: int) -> list[float]:
    """The median seconds of each request, over a kept connection each, in short blocks by turns: whatever else the machine does falls
    on all alike. The order of the turns changes, so that none always follows the same other one."""
    lines = [Line(case.url) for case in cases]
    took: list[list[float]] = [[] for _ in cases]
    try:
        for block in range(blocks):
            order = range(len(cases)) if block % 2 else reversed(range(len(cases)))
            for number in order:
                case, line = cases[number], lines[number]
                path = urlsplit(case.url).path
                for count in range(BLOCK):
                    started = time.perf_counter()
                    status, _ = line.request("GET", path, case.headers)
                    ended = time.perf_counter()
                    if status != 200:
                        raise RuntimeError(f"{case.name}: {status}")
                    if block and count >= WAKING:
                        took[number].append(ended - started)
    finally:
        for line in lines:
            line.close()
    return [statistics.median(times) for times in took]


def rates(cases: list[Case], seconds: float, turns: int) -> list[list[float]]:
    """Requests a second of each over 16 connections, turn by turn: one after the other within a turn, and backwards in the next."""
    found = []
    for turn in range(turns):
        ordered = cases if turn % 2 else cases[::-1]
        measured = [wrk(case.url, case.headers, seconds=seconds, warm=turn == 0).rate for case in ordered]
        found.append(measured if turn % 2 else measured[::-1])
    return found


class Subject:
    """A server with a public and a private channel, the same file in both, and somebody who may read it by a token or a password."""

    PUBLIC, PRIVATE = "public", "private"

    # One grant in all, and 10,000 of which 500 are the channel's.
    FEW = {PUBLIC: {"format": "pypi", "visibility": "public"}, PRIVATE: private(1)}
    MANY = {**FEW, PRIVATE: private(MOST_GRANTS), **{f"full-{number}": private(MOST_GRANTS) for number in range(FULL_CHANNELS)}}

    def __init__(self, server: Dev):
        self.server = server
        create_user(server.config, ACCOUNT, "--group", GROUP, password=PASSWORD)
        self.token = server.token(ACCOUNT)
        for channel in (self.PUBLIC, self.PRIVATE):
            server.publish(FILE, channel=channel)

    def case(self, kind: str, channel: str, auth: tuple[str, str] | None) -> Case:
        """A request for the file's page or for the file itself."""
        page = f"{self.server.url}/pypi/{channel}/+simple/{FILE.name}/"
        url = page if kind == "page" else self.server.file_url(FILE.name, FILE.filename, channel=channel)
        return Case(f"{kind} of {channel}", url, {"Authorization": basic(*auth)} if auth else {})
