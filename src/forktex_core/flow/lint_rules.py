# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What a body must not do, by the full names of what it calls."""

from dataclasses import dataclass

IN_A_STEP = "do it in a step: await ctx.step(fn, ...)"


@dataclass(frozen=True, slots=True)
class Rule:
    """A kind of nondeterminism.

    Args:
        problem: what goes wrong on replay.
        mend: what to write instead.
        calls: full names of functions; ``module.*`` stands for all that is in it.
        values: full names whose mere reading counts.
    """

    problem: str
    mend: str
    calls: tuple[str, ...] = ()
    values: tuple[str, ...] = ()


def _under(prefix: str, names: str) -> tuple[str, ...]:
    return tuple(f"{prefix}.{name}" for name in names.split())


_FILES = """read_text write_text read_bytes write_bytes open exists is_file is_dir iterdir glob
    rglob walk unlink mkdir rmdir stat lstat touch rename replace chmod symlink_to cwd home
    resolve"""
_PACKAGES = """requests httpx aiohttp urllib3 urllib.request http.client socket subprocess shutil
    tempfile glob sqlite3 asyncpg psycopg psycopg2 aiomysql pymysql pymongo redis boto3 botocore
    aioboto3 smtplib ftplib imaplib paramiko fabric grpc websockets kafka pika"""

RULES: dict[str, Rule] = {
    "wall-clock": Rule(
        "a replay reads another time",
        "use ctx.now()",
        (
            *_under("time", "time time_ns monotonic monotonic_ns perf_counter perf_counter_ns"),
            *_under("time", "process_time process_time_ns thread_time localtime gmtime ctime"),
            *_under("datetime.datetime", "now utcnow today"),
            "datetime.date.today",
        ),
    ),
    "blocking": Rule(
        "it stops every run of the worker, and no replay shortens it",
        "use await ctx.sleep(...)",
        ("time.sleep",),
    ),
    "random": Rule(
        "a replay draws other numbers",
        "use ctx.random()",
        ("random.*", "secrets.*", "numpy.random.*", "os.urandom", "os.getrandom"),
    ),
    "uuid": Rule(
        "a replay makes another id",
        "use ctx.uuid4()",
        _under("uuid", "uuid1 uuid4 uuid6 uuid7 getnode"),
    ),
    "environment": Rule(
        "another worker, host or process gives another answer",
        "pass it in the input, or read it in a step",
        (
            *_under("os", "getenv getenvb getpid getppid getlogin getcwd uname cpu_count"),
            *_under("builtins", "id hash"),
            *("platform.*", "getpass.*", "socket.gethostname", "socket.getfqdn"),
        ),
        ("os.environ", "os.environb", "sys.argv", "sys.path"),
    ),
    "threads": Rule(
        "its results come in an order that no journal holds",
        IN_A_STEP,
        (
            *("threading.*", "_thread.*", "multiprocessing.*", "concurrent.futures.*"),
            *_under("asyncio", "to_thread run run_coroutine_threadsafe"),
        ),
    ),
    "io": Rule(
        "every replay does it again, with another result",
        IN_A_STEP,
        (
            *_under("builtins", "open input breakpoint print"),
            *(f"{package}.*" for package in _PACKAGES.split()),
            *_under("pathlib.Path", _FILES),
            *_under("asyncio", "open_connection start_server open_unix_connection"),
            *_under("asyncio", "create_subprocess_exec create_subprocess_shell"),
            *_under("os.path", "exists isfile isdir islink getsize getmtime realpath samefile"),
            *_under("os", "system popen listdir scandir walk remove unlink rename replace mkdir"),
            *_under("os", "makedirs rmdir stat open read write kill fork execv spawnv chdir"),
        ),
    ),
    "unordered": Rule(
        "a set is iterated in another order by another process",
        "sort it first, or keep a list or dict",
        ("asyncio.as_completed",),
    ),
    "global-state": Rule(
        "what other runs and earlier replays did shows in it",
        "keep it in the body's own variables, or in the results of steps",
    ),
}

# What a rule for a whole module would catch, and must not.
HARMLESS = frozenset({"random.Random", "socket.AF_INET", "glob.escape", "subprocess.list2cmdline"})
HARMLESS_UNDER = ("random.Random.",)

_BY_NAME = {name: rule for rule, content in RULES.items() for name in content.calls}
_BY_VALUE = {name: rule for rule, content in RULES.items() for name in content.values}


def rule_of_call(name: str) -> str | None:
    """Return the rule that forbids calling something, by its full name."""
    if name in HARMLESS or name.startswith(HARMLESS_UNDER):
        return None
    parts = name.split(".")
    prefixes = (".".join(parts[:end]) + ".*" for end in range(len(parts) - 1, 0, -1))
    return next((_BY_NAME[n] for n in (name, *prefixes) if n in _BY_NAME), None)


def rule_of_value(name: str) -> str | None:
    """Return the rule that forbids reading something, by its full name."""
    parts = name.split(".")
    return next(
        (r for n, r in _BY_VALUE.items() if parts[: n.count(".") + 1] == n.split(".")), None
    )
