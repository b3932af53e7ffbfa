# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What is wrong with a Flow's database, its workers and its runs, and what to do about it.

Each check is a pure function from what was read to diagnoses. An *error* loses data or stops runs,
a *warning* will cost later, a *note* may be all right.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from forktex_core.flow.inspect.rows import plain_id
from forktex_core.flow.inspect.timeline import moment
from forktex_core.flow.store.inspection import InspectionStore
from forktex_core.flow.store.sql import migrations, quote_identifier

type Level = Literal["error", "warning", "note"]

OLDEST_SERVER = 140000
_INDEX = re.compile(r"^CREATE (?:UNIQUE )?INDEX (\w+) ON", re.MULTILINE)
_LEVELS: tuple[Level, ...] = ("error", "warning", "note")
# Tables whose rows change in place all the time, and must do so without touching an index.
_HOT_TABLES = ("worker", "leader", "published", "queue")
_SKEW = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Something that is wrong, or may be.

    Attributes:
        code: what it is, for programs.
        level: ``error``, ``warning`` or ``note``.
        sentence: what it is, for people.
        mend: what to do about it.
        details: the values that the sentence names.
    """

    code: str
    level: Level
    sentence: str
    mend: str
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Examination:
    """What an examination found.

    Attributes:
        server: the server's version, in words.
        checked: the names of the checks.
        diagnoses: the worst first.
    """

    server: str
    checked: tuple[str, ...]
    diagnoses: list[Diagnosis]

    @property
    def well(self) -> bool:
        """Whether there is nothing but notes."""
        return all(d.level == "note" for d in self.diagnoses)


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """All that the checks look at."""

    schema: str
    pooled: bool
    here: datetime
    server: Any
    backends: set[int]
    port: int
    tables: list[Any]
    indexes: list[Any]
    expected_indexes: frozenset[str]
    transactions: list[Any]
    stuck: dict[str, Any]
    silent: list[Any]
    leader: Any
    lives: list[Any]


async def examine(store: InspectionStore, schema: str, *, pooled: bool) -> Examination:
    """Read all that there is to look at, and look."""
    backends, port = await store.backends()
    server = await store.doctor_server()
    found = Findings(
        schema=schema, pooled=pooled, here=datetime.now(UTC), server=server, backends=backends,
        port=port, tables=await store.doctor_tables(schema),
        indexes=await store.doctor_indexes(schema), expected_indexes=expected_indexes(),
        transactions=await store.doctor_transactions(),
        stuck={row["what"]: row for row in await store.doctor_stuck()},
        silent=await store.doctor_stuck_workers(), leader=await store.leader(),
        lives=await store.lives(0),
    )  # fmt: skip
    diagnoses = [d for check in CHECKS for d in check(found)]
    diagnoses.sort(key=lambda d: _LEVELS.index(d.level))
    return Examination(
        f"PostgreSQL {server['version_text']}", tuple(c.__name__ for c in CHECKS), diagnoses
    )


def expected_indexes() -> frozenset[str]:
    """Return the names of the indexes that this release's migrations make."""
    return frozenset(name for m in migrations("x") for name in _INDEX.findall(m.sql))


# The server


def version(found: Findings) -> Iterator[Diagnosis]:
    """Versions that are known to work."""
    if found.server["version"] < OLDEST_SERVER:
        yield Diagnosis(
            "server_version", "error",
            f"the server is PostgreSQL {found.server['version_text']}; flow needs 14 or newer",
            "upgrade the server", {"version": found.server["version"]},
        )  # fmt: skip


def durability(found: Findings) -> Iterator[Diagnosis]:
    """Settings that decide what a crash of the server loses."""
    for name in ("fsync", "full_page_writes"):
        if found.server[name] != "on":
            yield Diagnosis(
                name, "error",
                f"{name} is {found.server[name]}: a crash of the server can destroy the database",
                f"set {name} = on, unless it is a throw-away server",
            )  # fmt: skip
    if found.server["synchronous_commit"] == "off":
        yield Diagnosis(
            "synchronous_commit", "warning",
            "synchronous_commit is off: a crash of the server loses the last steps that were "
            "acknowledged, and they are executed again",
            "set synchronous_commit = on for this role or database",
        )  # fmt: skip


def settings(found: Findings) -> Iterator[Diagnosis]:
    """Settings that get into a Flow's way."""
    for name in ("autovacuum", "track_counts"):
        if found.server[name] != "on":
            yield Diagnosis(
                name, "error", f"{name} is off: tables grow without end and get slow",
                f"set {name} = on",
            )  # fmt: skip
    if found.server["statement_timeout"] not in ("0", ""):
        yield Diagnosis(
            "statement_timeout", "warning",
            f"statement_timeout is {found.server['statement_timeout']} for this role: migrations "
            "and large claims may be cut off",
            "let the role that flow uses have statement_timeout = 0",
        )  # fmt: skip
    free = found.server["room"] - found.server["taken"]
    if free < 10:
        yield Diagnosis(
            "connections", "warning",
            f"{found.server['taken']} of {found.server['room']} connections are taken",
            "raise max_connections, lower pool_size, or put a pooler before the server",
            {"free": free},
        )  # fmt: skip


def pooler(found: Findings) -> Iterator[Diagnosis]:
    """A transaction pooler that the Flow was not told of."""
    if len(found.backends) > 1 and not found.pooled:
        yield Diagnosis(
            "pooler", "error",
            "statements of one connection are answered by several server processes: a transaction "
            "pooler stands between, and the Flow was not told",
            "Flow(..., pooled=True), with direct_url=... if the server can be reached directly",
            {"backends": sorted(found.backends)},
        )  # fmt: skip
        return
    there = found.server["client_port"]
    if not found.pooled and found.port and there and there > 0 and there != found.port:
        yield Diagnosis(
            "proxy", "note",
            f"the server sees port {there}, our connection has port {found.port}: a pooler, a "
            "proxy or NAT stands between",
            "if it is a pooler in transaction mode: Flow(..., pooled=True)",
        )  # fmt: skip


def clocks(found: Findings) -> Iterator[Diagnosis]:
    """The clock here and the database's, which decides."""
    skew = found.here - found.server["now"]
    if abs(skew) > _SKEW:
        yield Diagnosis(
            "clock", "warning",
            f"this machine's clock is {abs(skew).total_seconds():.1f} s "
            f"{'ahead of' if skew > timedelta(0) else 'behind'} the database's",
            "let both keep time by NTP", {"seconds": skew.total_seconds()},
        )  # fmt: skip


# The tables


def bloat(found: Findings) -> Iterator[Diagnosis]:
    """Dead rows that vacuum has not removed."""
    for row in found.tables:
        dead, live = row["dead"], row["live"]
        if dead > 10_000 and dead > live * 0.3:
            last = max(filter(None, (row["last_autovacuum"], row["last_vacuum"])), default=None)
            when = "never" if last is None else f"last {moment(last)}"
            yield Diagnosis(
                "bloat", "warning",
                f"table {row['name']} has {dead:,} dead rows beside {live:,} living ones; it was "
                f"vacuumed {when}",
                f"VACUUM {quote_identifier(found.schema)}.{row['name']}; if it comes back, lower "
                "autovacuum_vacuum_scale_factor for it, and look for old transactions",
                {"table": row["name"], "dead": dead, "live": live},
            )  # fmt: skip


def hot_updates(found: Findings) -> Iterator[Diagnosis]:
    """Updates in place that touched indexes after all."""
    for row in found.tables:
        updates, hot = row["updates"], row["hot"]
        if row["name"] in _HOT_TABLES and updates > 1000 and hot < 0.8 * updates:
            yield Diagnosis(
                "hot_ratio", "warning",
                f"only {100 * hot / updates:.0f} % of the updates of table {row['name']} were HOT: "
                "there is no room in its pages, or somebody added an index",
                f"drop indexes that you added to it; VACUUM FULL {quote_identifier(found.schema)}."
                f"{row['name']} makes room (it is small, and locked for a moment)",
                {"table": row["name"], "updates": updates, "hot": hot},
            )  # fmt: skip


def indexes(found: Findings) -> Iterator[Diagnosis]:
    """Indexes that are missing, or were not finished."""
    there = {row["name"]: row["valid"] for row in found.indexes}
    for name in sorted(found.expected_indexes - there.keys()):
        yield Diagnosis(
            "missing_index", "error", f"index {name} is missing: what needs it reads whole tables",
            "make it as the migration that comes with forktex-core does", {"index": name},
        )  # fmt: skip
    for name in sorted(n for n, valid in there.items() if not valid):
        yield Diagnosis(
            "invalid_index", "error", f"index {name} is invalid: Postgres doesn't use it",
            f"REINDEX INDEX {quote_identifier(found.schema)}.{name}", {"index": name},
        )  # fmt: skip


def statistics(found: Findings) -> Iterator[Diagnosis]:
    """Tables that the planner knows nothing of."""
    for row in found.tables:
        if row["live"] > 10_000 and not (row["last_analyze"] or row["last_autoanalyze"]):
            yield Diagnosis(
                "never_analyzed", "warning",
                f"table {row['name']} has {row['live']:,} rows and was never analyzed",
                f"ANALYZE {quote_identifier(found.schema)}.{row['name']}", {"table": row["name"]},
            )  # fmt: skip


def transactions(found: Findings) -> Iterator[Diagnosis]:
    """Transactions that keep vacuum from its work."""
    for row in found.transactions:
        yield Diagnosis(
            "old_transaction", "warning",
            f"session {row['pid']} ({row['application_name'] or 'no name'}, {row['state']}) has "
            f"had a transaction open since {moment(row['xact_start'])}: vacuum can't remove what "
            "died since",
            f"end it; SELECT pg_terminate_backend({row['pid']}) does",
            {"pid": row["pid"], "since": row["xact_start"]},
        )  # fmt: skip


# Workers and runs


def workers(found: Findings) -> Iterator[Diagnosis]:
    """Somebody who works and somebody who leads."""
    if not found.lives:
        yield Diagnosis(
            "no_workers", "warning", "no worker lives: no run moves",
            "start one: forktex-flow worker package.module:flow",
        )  # fmt: skip
    elif found.leader["worker_id"] is None or (
        found.leader["now"] - found.leader["seen_at"] > timedelta(seconds=10)
    ):
        yield Diagnosis(
            "no_leader", "error",
            "no worker does the leader's chores: timeouts, schedules and dead workers' runs stand "
            "still",
            "start a worker that may lead (lead=True, the default), and look at the workers' logs",
        )  # fmt: skip
    for row in found.silent:
        yield Diagnosis(
            "worker_silent", "warning",
            f"worker {row['id']} ({row['name']}, {row['host']}:{row['pid']}) has not been heard of "
            f"since {moment(row['heartbeat_at'])}",
            "the leader hands its runs on; if its process hangs, end it", {"worker": row["id"]},
        )  # fmt: skip


_STUCK: tuple[tuple[str, Level, str, str], ...] = (
    ("due", "warning", "are due for over a minute and nobody claimed them, the first",
     "forktex-flow runs show says why"),
    ("late", "error", "are over their timeout and were not ended, the first",
     "see whether there is a leader"),
    ("halted", "warning", "were halted by an error and wait for an operator, the first",
     "forktex-flow runs show names the error; mend it, then runs resume"),
)  # fmt: skip


def stuck_runs(found: Findings) -> Iterator[Diagnosis]:
    """Runs that should have moved."""
    for what, level, words, mend in _STUCK:
        row = found.stuck.get(what)
        if row is not None and row["n"]:
            first = plain_id(row["first"])
            yield Diagnosis(
                f"runs_{what}", level,
                f"{row['n']:,} runs {words} since {moment(row['since'])}: {first}",
                f"{mend}: {first}", {"runs": row["n"], "first": first, "since": row["since"]},
            )  # fmt: skip


CHECKS: tuple[Callable[[Findings], Iterator[Diagnosis]], ...] = (
    version, durability, settings, pooler, clocks, bloat, hot_updates, indexes, statistics,
    transactions, workers, stuck_runs,
)  # fmt: skip
