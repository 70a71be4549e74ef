"""SQL against PostgreSQL 15: pgbench, and scans and aggregates of a large table; writes docs/benchmarks-sql.md.

PostgreSQL has a database of its own on the same disk, with its default settings (so: durable commits). The tables of
pgbench are filled by COPY, a piece at a time. Rounds are interleaved; ratios are of the same round.
"""

import argparse
import os
import pathlib
import pwd
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time

import psycopg

from resp import PASSWORD, ROOT, cpu_seconds, machine, middle, span, thousands

sys.path.insert(0, str(ROOT / "Tests" / "Clients"))
from conftest import Cluster  # noqa: E402

CLIENTS, THREADS = 8, 2
PIECE = 5_000  # Rows of one COPY, and of one INSERT.
BINARIES = pathlib.Path("/usr/lib/postgresql/15/bin")
LINES = {
    "SELECT by key, prepared": (["-S", "-M", "prepared"], 1.0),
    "SELECT by key, simple": (["-S", "-M", "simple"], 0.8),
    "one-row UPDATE, prepared": (["-M", "prepared", "-f", "update.sql"], 1.0),
    "simple update (-N), prepared": (["-N", "-M", "prepared"], None),
    "TPC-B, prepared": (["-M", "prepared"], 0.6),
}
UPDATE = (
    "\\set aid random(1, 100000 * :scale)\n"
    "UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = :aid;\n"
)
QUERIES = {
    "SELECT count(*)": ("SELECT count(*) FROM big", 0.7),
    "SELECT sum(v), avg(v)": ("SELECT sum(v), avg(v) FROM big", 0.7),
    "WHERE of one in ten": ("SELECT count(*) FROM big WHERE v < 100", None),
    "GROUP BY 100 groups": ("SELECT g, count(*), sum(v) FROM big GROUP BY g", 0.7),
}


class Postgres:
    """A server of its own, as `initdb` leaves it."""

    name = "PostgreSQL"

    def __init__(self):
        self.home = pathlib.Path(tempfile.mkdtemp(prefix="orbit-pg-"))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.prefix = []
        if os.geteuid() == 0:  # It refuses to be run by root.
            user = pwd.getpwnam("postgres")
            os.chown(self.home, user.pw_uid, user.pw_gid)
            self.prefix = ["runuser", "-u", "postgres", "--"]
        secret = self.home / "secret"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        self.run("initdb", "-D", self.data, "-U", "orbit", "-A", "scram-sha-256", f"--pwfile={secret}", "-E", "UTF8")
        options = f"-p {self.port} -k {self.home} -c listen_addresses=127.0.0.1"
        self.run("pg_ctl", "-D", self.data, "-w", "-l", self.home / "log", "-o", options, "start")
        self.database = "postgres"
        self.pid = int((self.home / "data" / "postmaster.pid").read_text().split()[0])

    @property
    def data(self):
        return self.home / "data"

    def run(self, program, *words):
        command = [*self.prefix, str(BINARIES / program), *map(str, words)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd="/")

    def close(self):
        self.run("pg_ctl", "-D", self.data, "-m", "immediate", "stop")
        shutil.rmtree(self.home, ignore_errors=True)


class Orbit:
    name = "Orbit"

    def __init__(self):
        self.cluster = Cluster("--fsync", "always", password=PASSWORD).start()
        self.port, self.database = 5432 + self.cluster.offset, "orbit"

    def cpu(self):
        pids = self.cluster.pids()
        return sum(cpu_seconds(pids[name]) for name in ("pg-gw-1", "storage-node-1"))

    def close(self):
        self.cluster.close()


def connect(server):
    return psycopg.connect(
        host="127.0.0.1", port=server.port, user="orbit", password=PASSWORD, dbname=server.database, autocommit=True
    )


def copy(connection, statement, rows):
    piece = []

    def send():
        with connection.cursor().copy(statement) as target:
            target.write("".join(piece))
        piece.clear()

    for row in rows:
        piece.append(row)
        if len(piece) == PIECE:
            send()
    if piece:
        send()


def fill(server, scale, rows):
    with connect(server) as connection:
        for statement in (
            "CREATE TABLE pgbench_branches (bid int PRIMARY KEY, bbalance int, filler char(88))",
            "CREATE TABLE pgbench_tellers (tid int PRIMARY KEY, bid int, tbalance int, filler char(84))",
            "CREATE TABLE pgbench_accounts (aid int PRIMARY KEY, bid int, abalance int, filler char(84))",
            "CREATE TABLE pgbench_history (tid int, bid int, aid int, delta int, mtime timestamp, filler char(22))",
            "CREATE TABLE big (id bigint PRIMARY KEY, g int, v int)",
        ):
            connection.execute(statement)
        copy(connection, "COPY pgbench_branches (bid, bbalance) FROM STDIN", (f"{n + 1}\t0\n" for n in range(scale)))
        tellers = (f"{n + 1}\t{n // 10 + 1}\t0\n" for n in range(10 * scale))
        copy(connection, "COPY pgbench_tellers (tid, bid, tbalance) FROM STDIN", tellers)
        accounts = (f"{n + 1}\t{n // 100_000 + 1}\t0\t\n" for n in range(100_000 * scale))
        copy(connection, "COPY pgbench_accounts FROM STDIN", accounts)
        big = (f"{n}\t{n * 7919 % 100}\t{n * 104729 % 1000}\n" for n in range(rows))
        copy(connection, "COPY big FROM STDIN", big)
        connection.execute("VACUUM ANALYZE")


def pgbench(server, options, seconds, scale, folder):
    """Transactions per second, and mean milliseconds of one."""
    words = [str(folder / word) if word.endswith(".sql") else word for word in options]
    command = [
        str(BINARIES / "pgbench"), "-h", "127.0.0.1", "-p", str(server.port), "-U", "orbit", "-c", str(CLIENTS),
        "-j", str(THREADS), "-T", str(seconds), "-s", str(scale), *words, server.database,
    ]  # fmt: skip
    # PostgreSQL has no TLS as `initdb` leaves it: like is compared with like.
    words = {**os.environ, "PGPASSWORD": PASSWORD, "PGSSLMODE": "disable"}
    result = subprocess.run(command, capture_output=True, text=True, timeout=seconds * 10 + 60, env=words)
    rate, latency = re.search(r"tps = ([\d.]+)", result.stdout), re.search(r"latency average = ([\d.]+)", result.stdout)
    if result.returncode != 0 or not rate:
        raise SystemExit(f"pgbench {' '.join(options)} at {server.name}:\n{result.stdout}{result.stderr}")
    return float(rate[1]), float(latency[1])


def balances(server):
    """What TPC-B keeps equal."""
    with connect(server) as connection:
        sums = ("sum(abalance) FROM pgbench_accounts", "sum(bbalance) FROM pgbench_branches",
                "sum(tbalance) FROM pgbench_tellers")  # fmt: skip
        return [connection.execute(f"SELECT {query}").fetchone()[0] for query in sums]


def compare(servers, rounds, seconds, scale):
    folder = pathlib.Path(tempfile.mkdtemp(prefix="orbit-pgbench-"))
    (folder / "update.sql").write_text(UPDATE)
    folder.chmod(0o755)
    runs = {title: {server.name: [] for server in servers} for title in LINES}
    for number in range(rounds + 1):  # The first one warms up.
        for title, (options, _) in LINES.items():
            for server in servers if number % 2 == 0 else servers[::-1]:
                result = pgbench(server, options, seconds if number > 0 else min(seconds, 2), scale, folder)
                if number > 0:
                    runs[title][server.name].append(result)
            if number > 0:
                postgres, orbit = (runs[title][server.name][-1][0] for server in servers)
                print(
                    f"{number}/{rounds} {title:30} {orbit:9.0f} / {postgres:9.0f} = {orbit / postgres:.2f}", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    return runs


def scan(servers, rounds):
    """Seconds of each query."""
    runs = {title: {server.name: [] for server in servers} for title in QUERIES}
    connections = {server.name: connect(server) for server in servers}
    for number in range(rounds + 1):
        for title, (query, _) in QUERIES.items():
            answers = {}
            for server in servers if number % 2 == 0 else servers[::-1]:
                began = time.perf_counter()
                answers[server.name] = sorted(connections[server.name].execute(query).fetchall())
                if number > 0:
                    runs[title][server.name].append(time.perf_counter() - began)
            if len({str(answer) for answer in answers.values()}) != 1:
                raise SystemExit(f"{query}: the servers do not agree")
            if number > 0:
                postgres, orbit = (runs[title][server.name][-1] for server in servers)
                print(f"{number}/{rounds} {title:30} {orbit:8.3f} s, {postgres:8.3f} s", flush=True)
    return runs


def verdict(ratio, asked):
    return "" if asked is None else f"{asked} {'met' if ratio >= asked else '**missed**'}"


def table(runs):
    yield "| line | PostgreSQL transactions/s (range) | Orbit transactions/s (range) | ratio (range) | asked | ms |"
    yield "|---|---|---|---|---|---|"
    for title, by_server in runs.items():
        postgres, orbit = by_server["PostgreSQL"], by_server["Orbit"]
        ratios = [o[0] / p[0] for o, p in zip(orbit, postgres)]
        cells = [title]
        for results in (postgres, orbit):
            rates = [result[0] for result in results]
            cells.append(f"{thousands(middle(rates))} ({thousands(min(rates))}–{thousands(max(rates))})")
        cells.append(f"**{middle(ratios):.2f}** ({span(ratios, '{:.2f}')})")
        cells.append(verdict(middle(ratios), LINES[title][1]))
        cells.append(", ".join(f"{middle([result[1] for result in results]):.2f}" for results in (postgres, orbit)))
        yield "| " + " | ".join(cells) + " |"


def table_of_scans(runs):
    yield "| query | PostgreSQL s (range) | Orbit s (range) | ratio (range) | asked |"
    yield "|---|---|---|---|---|"
    for title, by_server in runs.items():
        postgres, orbit = by_server["PostgreSQL"], by_server["Orbit"]
        ratios = [p / o for o, p in zip(orbit, postgres)]
        cells = [title]
        cells += [f"{middle(times):.3f} ({span(times, '{:.3f}')})" for times in (postgres, orbit)]
        cells += [f"**{middle(ratios):.2f}** ({span(ratios, '{:.2f}')})", verdict(middle(ratios), QUERIES[title][1])]
        yield "| " + " | ".join(cells) + " |"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--scale", type=int, default=10)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "docs" / "benchmarks-sql.md")
    arguments = parser.parse_args()
    busy, servers = os.getloadavg()[0], []
    try:
        servers += [Postgres()]
        servers += [Orbit()]
        for server in servers:
            began = time.perf_counter()
            fill(server, arguments.scale, arguments.rows)
            print(f"{server.name} is filled: {time.perf_counter() - began:.0f} s", flush=True)
        runs = compare(servers, arguments.rounds, arguments.seconds, arguments.scale)
        before = [balances(server) for server in servers]
        scans = scan(servers, arguments.rounds)
    finally:
        for server in servers:
            server.close()
    text = [
        "# Benchmarks of SQL", "",
        "Written by `scripts/bench pg`; do not edit. PostgreSQL 15 as `initdb` leaves it and one Orbit cluster",
        "(coordinator, one node, one gateway; `--fsync always`) on the same disk, pgbench of PostgreSQL with",
        f"{CLIENTS} clients without TLS (which PostgreSQL does not have then), rounds interleaved. A ratio above 1",
        "is in favour of Orbit.",
        "", f"{machine()}; {arguments.rounds} rounds of {arguments.seconds} s; scale {arguments.scale}; load average "
        f"before the run {busy:.1f}.",
        "", *table(runs), "",
        "Milliseconds are the mean of a transaction, of PostgreSQL and of Orbit. Sums of balances at the end: "
        + "; ".join(f"{server.name} {sums}" for server, sums in zip(servers, before)) + ".",
        "", f"## Scans and aggregates of {thousands(arguments.rows)} rows, one client", "", *table_of_scans(scans),
    ]  # fmt: skip
    print("\n".join(text))
    arguments.output.write_text("\n".join(text) + "\n")


if __name__ == "__main__":
    main()
