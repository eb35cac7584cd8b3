"""A number that the code has and a page or docstring tells is the same in both; docs/design.md tells the most of them.

`SAID` has sentences as the pages have them, one a paragraph, with an expression over the code's own constants for each
number: who changes a constant is told which sentences follow, and who changes a page whether the code does so.
"""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pypatcher.budgets import UploadLimiter
from pypatcher.dht.storage import ItemStore, PeerStore
from pypatcher.discovery.namespace import OURS, RUSTPATCHER
from pypatcher.process.supervisor import Supervisor
from pypatcher.settings import Settings
from pypatcher.transfer import StallRule
from pypatcher.transport import Endpoint
from pypatcher.transport.admission import Admission

ROOT = Path(__file__).parents[2]

SAID = {
    "docs/design.md": """
every {settings._EARLY_LOOK} s for {minutes(settings._EARLY)}, then {settings._LATE_LOOK} s, jittered by a tenth

| opened of one slot | {discovery.tracker._OPEN_LIMIT} values

| publish | every {SETTINGS.publish_interval} s; after a write that reached nobody
{discovery.publisher._FIRST_RETRY} s, doubling up to that; a device that hears the owner and wants nothing: every
{hours(discovery.sources.slots._AT_REST)} from {minutes(discovery.sources.slots._EARLY)} on; one that never heard him,
and wants nothing, every {discovery.sources.slots._AT_REST_WITHOUT_WORD} s

or {OURS.full_at} others say ours or newer, or one on three quarters of the nodes; the pause doubles, up to
{hours(discovery.publisher._LONGEST_PAUSE)}

once in {times(discovery.tracker._ANYWAY)}: {OURS.full_at} throw-away ids

| address hints | {discovery.announcement.HINT_LIMIT} at most; no IPv4 port

ends with the {dht.lookup.NEAREST} nearest nodes; {dht.lookup.ALPHA} questions at once, {dht.lookup.MAX_QUERIES} in
all

| of these {dht.lookup.NEAREST} | {dht.lookup._INSECURE} at most whose id BEP 42 does not allow,
{dht.lookup._PER_PROVIDER} per /16 or /32; neither before {dht.lookup._ANYHOW} are filled, nor in the LAN

| {dht.crowd._PER_HOST} and {dht.crowd._PER_GROUP}, in the table and in a lookup; there
{dht.lookup._FORGIVEN} of a network that did not answer make room

| silent for {minutes(dht.crowd._SILENCE)} | the port; the host (of IPv6 the /64) from its
{dht.crowd._WRONG_PORTS}th silent port on, unless it answered in the last {minutes(dht.crowd._ANSWERED)}

{dht.calls._QUERIES_EACH[0]} a second, {dht.calls._QUERIES_EACH[1]} at once: libtorrent bans who sends 50 in 10 s

{dht.server._LARGEST} bytes at most, {dht.server._FAR_EACH[0]/1000} kB a second per address,
{dht.server._FAR_ALL[0]/1000} kB in all

{PEERS.limit} peers, {PEERS.each} of one info-hash, for {minutes(dht.storage.PEER_LIFETIME)}; {ITEMS.limit} items,
for {hours(dht.storage.ITEM_LIFETIME)}

{discovery.sources.swarm._WANTING} s while something is wanted ({discovery.sources.swarm._SERVING} s after
{minutes(discovery.sources.swarm._WANTING_LONG)} in vain), else every {discovery.sources.swarm._SERVING} s; from
{minutes(discovery.sources.swarm._FRESH)} on every {minutes(discovery.sources.swarm._AT_REST)}
(the release's by its {discovery.sources.swarm._NEAREST} nearest nodes alone), with
{discovery.sources.swarm._GLANCED} nodes asked every {discovery.sources.swarm._SERVING} s who is new

at the start, every {minutes(discovery.sources.lan._INTERVAL)}, and when somebody new is heard

Of one host {discovery.sources.lan._HEARD_EACH[0]*60} announcements a minute are heard
({discovery.sources.lan._HEARD_EACH[1]} at once), of which {discovery.sources.lan._PORTS_EACH} ports are remembered; of
hosts that are in no /24 of our IPv4 addresses, of which any number can be forged,
{discovery.sources.lan._HEARD_BEYOND.most} a second

checked every {nat.address_monitor.LOOK_EVERY} s, without a packet

our {transport.quic.CONNECTION_ID_SIZE}-byte connection ids

or {udp._READS_PER_WAKE_UP} reads were made

an offer may start a fetch once {hours(transfer.gate._GATE_PAUSE)} per /24 or /48

{kib(transfer.taking.CHUNK)} KiB at a time

| peers that give one release by its tree | {update.updater._GIVERS}, {update.updater._FAR_GIVERS} of them from outside
the LAN; while they are slow the slowest is left, after {transfer.v1.members._SLOW_AFTER} s

| {transfer.v1.member.AT_ONCE} requests at once, of {kib(transfer.v1.picker._FIRST)} KiB at first, up to
{mib(transfer.v1.picker._LARGEST)} MiB while one takes under {transfer.v1.picker._QUICK} s, down to
{kib(transfer.v1.picker._SMALLEST)} KiB while it takes over {transfer.v1.picker._SLOW} s; while others fetch the
same, of a {transfer.v1.picker._OF_FILE}th of the file at most

| a peer that is busy | asked again after {transfer.v1.member._BUSY_PAUSES[0]}, {transfer.v1.member._BUSY_PAUSES[1]},
{transfer.v1.member._BUSY_PAUSES[2]} and {transfer.v1.member._BUSY_PAUSES[3]} s,
{transfer.v1.member._BUSY_TRIES} times in all, then left

| a peer with nothing to ask it for | left after {transfer.v1.swarm._IDLE} s, but not in the LAN while it fetches the
same; when all are gone others have {transfer.v1.members._ALONE} s to come

| nobody gives anything | after {transfer.v1.members._IN_VAIN} s the fetch ends; what came is kept

| a taker that takes from several at once | gives way after {budgets.upload_limits._TURN_SECONDS} s to who asks
next, when all places are taken; what it was asked is still answered, to {UPLOADS.uploads}
(LAN: {UPLOADS.lan_uploads}) such at once

| a taker that asks for nothing | its place goes to who asks next after {budgets.upload._REST_SECONDS} s

| fetches at once | {transfer.hedging._AT_ONCE-1}, and a rival to a slow one (after {transfer.hedging._GRACE} s: over
{minutes(transfer.hedging._PATIENCE)} and under {kib(transfer.hedging._DECENT_RATE)} KiB/s)

end {transfer.hedging._CLEARLY} times sooner; the next rival comes after {transfer.hedging._RIVAL_PAUSES[0]} s to
{minutes(transfer.hedging._RIVAL_PAUSES[1])}

under {STALL.rate} bytes/s for {STALL.seconds} s; {transfer.stall._ANSWER_SECONDS} s for a short answer,
{DIAL.timeout} s for a handshake; {transfer.taking._NUDGES+1} nudges unanswered

pauses for {budgets.peer_budget._FIRST_PAUSE} s, doubling, up to {hours(budgets.peer_budget._LONGEST_PAUSE)}; not

| {budgets.peer_budget._FAILED_BYTES_FACTOR} times its size, then strangers pause for it in the same way; in the LAN
{budgets.peer_budget._FAILED_BYTES_FACTOR_LAN} times its size

| {budgets.peer_budget._FAILED_BYTES_FACTOR_DAY} times its size of strangers, and as much in the LAN; that side,
but who delivered before, then pauses for {hours(budgets.peer_budget._LONGEST_PAUSE)}

preflight again after {update.updater._PREFLIGHT_PAUSES[0]} s, doubling, up to
{hours(update.updater._PREFLIGHT_PAUSES[1])}

| {UPLOADS.uploads} to outside the LAN, {UPLOADS.per_address} per address (IPv6: /64); {UPLOADS.lan_uploads} in the
LAN

| {mib(UPLOADS.rate)} MiB/s; {UPLOADS.daily_factor} files a day:
{UPLOADS.daily_factor//budgets.upload_limits._ADDRESS_PART} per address,
{UPLOADS.daily_factor//budgets.upload_limits._NETWORK_PART} per /24 or /48,
{UPLOADS.daily_factor*budgets.upload_limits._PROVIDER_FIFTHS//5} per /16 or /32, the last
{UPLOADS.daily_factor//budgets.upload_limits._NEWCOMERS_PART} for newcomers

after {budgets.upload._SLOW_SECONDS} s under {kib(budgets.upload.SLOW_RATE)} KiB/s, or
{budgets.upload._SHOWN_SECONDS} s in which it took nothing; to its own next try after
{budgets.upload_limits._STUCK_SECONDS} s idle

| asks and takes nothing | {budgets.upload_limits._NOTHING} times a minute per /24 or /48, twice as often per

| sent ahead of what was acknowledged | {kib(budgets.upload.FIRST_FLIGHT)} KiB, and as much again as was, up to
{mib(transport.stream.WRITE_LIMIT)} MiB

| {PLACES.connections}; from outside the LAN {PLACES.side}, of the LAN {PLACES.side}, of both the last
{PLACES.side//transport.admission._NEWCOMERS} for networks that have none

| {PLACES.per_network} per /24 or /48; {PLACES.per_address} per address (IPv6: /64), {PLACES.per_lan_host} per LAN host;
Retry from {PLACES.half_open} half-open on

| {transport.endpoint._ASK_SECONDS} s in all from its first packet; when there is no place, the oldest such one goes

| handshakes in {transport.admission._HANDSHAKES_SECONDS} s | {PLACES.handshakes} per /24 or /48,
{PLACES.lan_handshakes} per LAN host; after {PLACES.handshakes} unproved ones, Retry for all;
above {transport.incoming._CALM[0]} first packets a second,
{transport.incoming._FLOODED[0]} per network are read

| {transport.handover.STREAMS} streams, {kib(transport.rawkeys.HANDSHAKE_LIMIT)} KiB of handshake,
{kib(transport.stream.DEFAULT_WINDOW)} KiB ahead of a reader ({mib(transfer.taking.WINDOW)} MiB in a fetch),
{established.range_set.STREAM_FRAGMENTS} gaps

one in `{nat.punch_times.WINDOW} * 2^level` s

The level is 0 up to {nat.punch_times._FEW} nodes, {nat.punch_times.level_of_crowd(10**6)} from
{nat.punch_times._CROWD//2+1} on, +1 per knock in vain, {nat.punch_times.LAST_LEVEL} at most

Each /24 or /48 gets {nat.knock_queue._GROUP_KNOCKS[0]} knocks in {minutes(nat.knock_queue._GROUP_KNOCKS[1])}

records {discovery.sources.slots.RECORDS.knocks},
a release's swarm {discovery.sources.swarm.HOLDERS.knocks}, the namespace's swarm
{discovery.sources.swarm.EVERYBODY.knocks}

within the last hour get their knock at once, {nat.knock_queue._PROVEN_KNOCKS[0]} a minute. So do neighbours heard by
multicast, {discovery.sources.lan.NEIGHBOURS.knocks} a minute in a /24 of ours, {discovery.sources.lan.BEYOND.knocks} of
others, {nat.knock_queue._MACHINE_KNOCKS[0]} at one machine; {discovery.sources.lan.NEIGHBOURS.room} and
{discovery.sources.lan.BEYOND.room} are remembered

may be dialed for {nat.knock_queue._OPEN} s, and gets no knock for {minutes(nat.knock_queue._REST)}, or for
{hours(nat.knock_queue._REST_USELESS)} if it was of no use

in a large swarm one time in {times(nat.knock_queue._TRIED)[:4]}

for {hours(nat.portmap.mapper._LEASE)}, renewed within {minutes(nat.portmap.mapper._LATEST_RENEWAL)}

the next such local time plus up to {minutes(update.mode._RESTART_JITTER)}

or {minutes(node.node._CONFIRM_AFTER)} of uptime with its node at work

After {install.decide.LIMITS.failed} failed starts, or {install.decide.LIMITS.reboots} reboots

{minutes(process.restart.DELAY_LIMIT)} at most for all

ended {process.restart.GRACE} s after SIGTERM is interrupted as if it had no handler;
after {process.restart._LAST_GRACE} s more, or {process.restart.GRACE} s after an interruption

SIGTERM, as from systemd, and after {process.restart._CHILDREN_GRACE} s SIGKILL

waits for the launcher to end, {minutes(process.handover._PATIENCE)} at most

Our units set {process.unit.RESTART_STATUS}, beside `RestartForceExitStatus={process.unit.RESTART_STATUS}`

stop signal, {SUPERVISOR.stop_timeout} s (`--stop-timeout`), SIGKILL

own failures exit {process.image.EXIT_OWN_FAILURE}, a program that cannot be executed
{process.child.EXIT_CANNOT_EXECUTE} or {process.child.EXIT_NOT_FOUND}

waits for the node's end, {app.thread._STOP_SECONDS} s at most

for {node.dht_monitor._FIRST} s at first, {minutes(node.dht_monitor._LATER)} later

[region](protocol.md#the-signed-file) of {artifact.patch.REGION_SIZE} bytes

text of at most {version.TEXT_SIZE} bytes

more than {gib(artifact.patch.MAX_FILE_SIZE)} GiB
""",
    "docs/protocol.md": """
| signed file | {gib(artifact.patch.MAX_FILE_SIZE)} GiB |

| version text | {version.TEXT_SIZE} characters |

| EncryptedRecord | {discovery.records.VALUE_LIMIT} bytes |

| hints | {discovery.announcement.HINT_LIMIT} addresses |

| values opened in a look at one slot | {discovery.tracker._OPEN_LIMIT} |

| {artifact.sections._SECTION_LIMIT}, {mib(artifact.sections._NAME_TABLE_LIMIT)} MiB |

| {established.range_set.CRYPTO_FRAGMENTS} in a handshake, {established.range_set.STREAM_FRAGMENTS} in a stream; then

{STALL.rate} bytes a second over {STALL.seconds} seconds |

| {UPLOADS.uploads}, and {UPLOADS.per_address} per address; all taken, who took less than
{kib(budgets.upload.SLOW_RATE)} KiB a second

| {mib(UPLOADS.rate)} MiB a second, and {UPLOADS.daily_factor} times the file's size a day

| {PLACES.connections}: {PLACES.per_address} per address, {PLACES.per_network} per /24 or /48,
{PLACES.side} from outside the LAN |

| {OURS.full_at} records of our version or newer | {RUSTPATCHER.full_at} records of any version |

with at most {dht.server._LARGEST} bytes

about every {SETTINGS.publish_interval} seconds, into the current minute

about every {settings._EARLY_LOOK} seconds for the first {minutes(settings._EARLY)} and every
{minutes(settings._LATE_LOOK)} later

open a bounded number, {discovery.tracker._OPEN_LIMIT} per slot here

more than {minutes(transfer.hedging._PATIENCE)} at less than {kib(transfer.hedging._DECENT_RATE)} KiB a second gets
a rival

`{nat.punch_times.WINDOW} * 2^level` seconds, counted from unix time 0

at most {nat.punch_times._FEW} nodes in the namespace's swarm, else that of the next power of two
({nat.punch_times._CROWD} at most), and one level more for each knock in vain: up to {nat.punch_times.LAST_LEVEL}
""",
    "docs/network.md": """
at most {dht.server._FAR_EACH[0]/1000} kB/s to one address, {dht.server._FAR_ALL[0]/1000} kB/s in all | 60 to
{dht.server._LARGEST} bytes each

every {settings._EARLY_LOOK} s for {minutes(settings._EARLY)} after a start, then every
{minutes(settings._LATE_LOOK)}, jittered

every {SETTINGS.publish_interval} s, unless {OURS.full_at} others

every {discovery.sources.swarm._WANTING} s while something is wanted,
else every {minutes(discovery.sources.swarm._SERVING)} for {minutes(discovery.sources.swarm._FRESH)}, then every
{discovery.sources.swarm._AT_REST/60}, with {discovery.sources.swarm._GLANCED} nodes asked every
{minutes(discovery.sources.swarm._SERVING)}

at the start, then every {minutes(discovery.sources.lan._INTERVAL)}, or when somebody new is heard

{mib(UPLOADS.rate)} MiB/s outside the LAN, {UPLOADS.uploads} at once, {UPLOADS.daily_factor} times the file's size a
day

at most {nat.knock_queue._GROUP_KNOCKS[0]} knocks in {minutes(nat.knock_queue._GROUP_KNOCKS[1])} to one /24

have limits of their own: {nat.knock_queue._PROVEN_KNOCKS[0]} a minute, and
{discovery.sources.lan.NEIGHBOURS.knocks} in a /24 of its own, {nat.knock_queue._MACHINE_KNOCKS[0]} at one machine

Both are for {hours(nat.portmap.mapper._LEASE)}, renewed every {minutes(nat.portmap.mapper._LATEST_RENEWAL)}

every {nat.address_monitor.LOOK_EVERY} seconds a device looks

up to {node.fetch_newest._PERSEVERANCE} times its `--timeout`
""",
    "docs/threat-model.md": """
{established.range_set.CRYPTO_FRAGMENTS} gaps in a handshake, {established.range_set.STREAM_FRAGMENTS} in a stream

{dht.krpc.MAX_NODES} nodes and {dht.krpc.MAX_PEERS} peers are read of one

at most {dht.server._LARGEST} bytes

gets {dht.server._FAR_EACH[1]/1000} kB at once, then {dht.server._FAR_EACH[0]/1000} kB/s, all together
{dht.server._FAR_ALL[0]/1000} kB/s

asks the {dht.lookup.NEAREST} nearest nodes, takes every value that one of them has, and opens
{discovery.tracker._OPEN_LIMIT} at most

after {install.decide.LIMITS.failed} starts
""",
    "docs/install.md": """
the {install.trial._MAX_REFUSED} latest are kept

{install.trial._MAX_TEXT} characters at most

longer than {kib(install.trial.STATE_LIMIT)} KiB

unclaimed for {minutes(install.starts.CLAIM_TICKS/100)}

{word(install.decide.LIMITS.failed).capitalize()} failed starts, or {word(install.decide.LIMITS.reboots)} reboots
""",
    "docs/deployment.md": """
Otherwise {minutes(node.node._CONFIRM_AFTER)} of uptime with a working node

`Environment=PYPATCHER_RESTART_STATUS={process.unit.RESTART_STATUS}`

`RestartForceExitStatus={process.unit.RESTART_STATUS}`

at most {UPLOADS.daily_factor} times a day

by now, up to {word(node.fetch_newest.ENOUGH_SOURCES)}
""",
    "README.md": """
seconds between publications | {SETTINGS.publish_interval} |

seconds between looks | {settings._EARLY_LOOK} for {minutes(settings._EARLY)}, then {settings._LATE_LOOK} |

0 serves nobody | {SETTINGS.upload} |

one region of {artifact.patch.REGION_SIZE} bytes

{word(install.decide.LIMITS.failed)} failed starts bring the old one back
""",
    "pypatcher/__init__.py": """
a new version is confirmed after {minutes(node.node._CONFIRM_AFTER)}

until the node is gone, {app.thread._STOP_SECONDS} seconds at most

waits until it returns, {minutes(process.restart.DELAY_LIMIT)} at most for all of them
""",
    "pypatcher/settings.py": """
or None for {settings._EARLY_LOOK} in the first {minutes(settings._EARLY)} and {settings._LATE_LOOK} later
""",
    "pypatcher/version.py": """
at most {version.TEXT_SIZE} characters together
""",
    "pypatcher/bounded.py": """
beyond {bounded.TABLE_LIMIT}.
""",
    "pypatcher/limits.py": """
{bounded.TABLE_LIMIT} keys are remembered
""",
    "pypatcher/artifact/sections.py": """
At most {artifact.sections._SECTION_LIMIT} sections and {mib(artifact.sections._NAME_TABLE_LIMIT)} MiB of names
""",
    "pypatcher/dht/crowd.py": """
{dht.crowd._PER_HOST} per host, {dht.crowd._PER_GROUP} per /24 or /48
""",
    "pypatcher/dht/krpc.py": """
larger than {kib(dht.krpc.MAX_DATAGRAM)} KiB
""",
    "pypatcher/dht/node.py": """
at the {dht.lookup.NEAREST} nodes nearest to it

not used once it is {minutes(dht.node._FRESH_LOOKUP)} old
""",
    "pypatcher/dht/peers.py": """
beyond {dht.peers._MOST_EACH} peers it is not read
""",
    "pypatcher/dht/results.py": """
nearest first, at most {dht.lookup.NEAREST} per family

at most {dht.peers._MOST_PEERS} per family

named, at most {dht.peers._COUNTED_A_HOST} per host
""",
    "pypatcher/dht/storage.py": """
for {minutes(dht.storage.PEER_LIFETIME)}; at most {PEERS.each} per info-hash and {PEERS.limit} in all

for {hours(dht.storage.ITEM_LIFETIME)}, at most {ITEMS.limit}
""",
    "pypatcher/dht/tokens.py": """
changes every {minutes(dht.tokens.TOKEN_ROTATION)}
""",
    "pypatcher/nat/portmap/http.py": """
{kib(nat.portmap.http._LARGEST_ANSWER)} KiB and {nat.portmap.http._TIMEOUT} s at most
""",
    "pypatcher/nat/portmap/mapper.py": """
give it back within {nat.portmap.mapper._GIVE_BACK_SECONDS} s
""",
    "pypatcher/transfer/client.py": """
up to {kib(transfer.taking.CHUNK)} KiB at a time
""",
    "pypatcher/budgets/peer_budget.py": """
twice as long as the last time, up to {hours(budgets.peer_budget._LONGEST_PAUSE)}. When a release has cost
{budgets.peer_budget._FAILED_BYTES_FACTOR} times its size

when it has cost {budgets.peer_budget._FAILED_BYTES_FACTOR_LAN} times its size there; and either side for
{hours(budgets.peer_budget._LONGEST_PAUSE)} when that side has cost {budgets.peer_budget._FAILED_BYTES_FACTOR_DAY}
times its size in a day

never for longer than {budgets.peer_budget._BUSY_PAUSE} s
""",
    "pypatcher/transfer/stall.py": """
Give a peer {transfer.stall._ANSWER_SECONDS} seconds for a few bytes
""",
    "pypatcher/update/mode.py": """
at this local time, plus up to {minutes(update.mode._RESTART_JITTER)} of jitter
""",
}


class Code:
    """``dht.lookup.ALPHA`` is what the package has under that name."""

    def __init__(self, found: Any) -> None:
        self._found = found

    def __getattr__(self, name: str) -> Any:
        try:
            found = getattr(self._found, name)
        except AttributeError:
            found = importlib.import_module(f"{self._found.__name__}.{name}")
        return Code(found) if isinstance(found, ModuleType) else found


class Names(dict[str, Any]):
    def __missing__(self, name: str) -> Any:
        return Code(importlib.import_module(f"pypatcher.{name}"))


class Defaults:
    """``SETTINGS.upload`` is what that parameter is when nobody gives it."""

    def __init__(self, function: Any) -> None:
        self._function = function

    def __getattr__(self, parameter: str) -> Any:
        return inspect.signature(self._function).parameters[parameter].default


def hours(seconds: float) -> str:
    return "an hour" if seconds == 3600 else f"{seconds / 3600:g} hours"


def names() -> Names:
    return Names(
        hours=hours,
        word={3: "three", 10: "ten"}.__getitem__,
        minutes=lambda seconds: f"{seconds / 60:g} minutes",
        times=lambda share: {0.25: "four times", 0.5: "two times"}.get(share, f"{1 / share:g} times"),
        kib=lambda size: size / 1024,
        mib=lambda size: size / (1 << 20),
        gib=lambda size: size / (1 << 30),
        PLACES=Admission(),
        DIAL=Defaults(Endpoint.connect),
        UPLOADS=Defaults(UploadLimiter),
        STALL=Defaults(StallRule),
        SETTINGS=Defaults(Settings),
        PEERS=Defaults(PeerStore),
        ITEMS=Defaults(ItemStore),
        SUPERVISOR=Defaults(Supervisor),
        OURS=OURS,
        RUSTPATCHER=RUSTPATCHER,
    )


def sentences(page: str) -> list[str]:
    return [words(rendered(sentence)) for sentence in SAID[page].strip().split("\n\n")]


def rendered(sentence: str) -> str:
    def number(match: re.Match[str]) -> str:
        value = eval(match[1], {}, names())
        return value if isinstance(value, str) else f"{value:.12g}"

    return re.sub(r"\{([^}]+)\}", number, sentence)


def words(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("page", SAID)
def test_a_page_tells_the_numbers_of_the_code(page: str) -> None:
    text = words((ROOT / page).read_text(encoding="utf-8"))
    assert [sentence for sentence in sentences(page) if sentence not in text] == []


def test_every_number_in_the_design_pages_tables_is_the_codes() -> None:
    page = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    tables = [block for block in page.split("\n\n") if block.startswith(("| rule | number", "| fetching | number"))]
    assert len(tables) == 2
    rows = [row for table in tables for row in table.splitlines()[2:]]
    said = sorted(sentences("docs/design.md"), key=len, reverse=True)
    free = []
    for row in rows:
        left = re.sub(r"/(16|24|32|48|64)|IPv[46]|BEP 42", "", re.sub("|".join(map(re.escape, said)), "", row))
        if re.search(r"\d", left):
            free.append(row)
    assert free == []
