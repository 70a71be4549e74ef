"""pgbench, PostgreSQL's own load: short runs of a fixed number of transactions. Under READ COMMITTED no transaction may
fail, for updates wait; and what it moves must add up."""

import os
import pathlib
import re
import subprocess

import pytest

from conftest import PATIENCE, Cluster
from test_sql import connect

PGBENCH = pathlib.Path("/usr/lib/postgresql/15/bin/pgbench")
pytestmark = pytest.mark.skipif(not PGBENCH.exists(), reason="pgbench is not there: scripts/setup --test")
ACCOUNTS, PIECE = 100_000, 20_000  # Of scale 1; rows of one COPY.


@pytest.fixture(scope="module")
def cluster():
    with Cluster("--shards", "2") as running:
        with connect(running) as connection:
            for statement in (
                "CREATE TABLE pgbench_branches (bid int PRIMARY KEY, bbalance int, filler char(88))",
                "CREATE TABLE pgbench_tellers (tid int PRIMARY KEY, bid int, tbalance int, filler char(84))",
                "CREATE TABLE pgbench_accounts (aid int PRIMARY KEY, bid int, abalance int, filler char(84))",
                "CREATE TABLE pgbench_history (tid int, bid int, aid int, delta int, mtime timestamp, filler char(22))",
                "INSERT INTO pgbench_branches VALUES (1, 0)",
                "INSERT INTO pgbench_tellers SELECT g, 1, 0 FROM generate_series(1, 10) g",
            ):
                connection.execute(statement)
            for first in range(1, ACCOUNTS, PIECE):  # All at once is more than a transaction may change at a shard.
                with connection.cursor().copy("COPY pgbench_accounts (aid, bid, abalance) FROM STDIN") as copy:
                    copy.write("".join(f"{number}\t1\t0\n" for number in range(first, first + PIECE)))
        yield running


def run(cluster, *options):
    """What pgbench says; it has tables vacuumed on its way."""
    command = [
        str(PGBENCH), "-h", "127.0.0.1", "-p", str(5432 + cluster.offset), "-U", "orbit", "-s", "1", *options, "orbit",
    ]  # fmt: skip
    environment = {**os.environ, "PGPASSWORD": cluster.password}
    result = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE * 2, env=environment)
    assert result.returncode == 0, result.stdout + result.stderr
    return result


def pgbench(cluster, *options):
    output = run(cluster, "-c", "8", *options).stdout
    done = re.search(r"actually processed: (\d+)/(\d+)", output)
    assert done and done[1] == done[2], output
    assert re.search(r"number of failed transactions: 0 ", output), output
    return int(done[1])


def test_tables_are_vacuumed(cluster):
    assert "vacuuming..." in run(cluster, "-i", "-I", "v").stderr
    with connect(cluster) as connection:
        tuples = "SELECT reltuples FROM pg_class WHERE relname = 'pgbench_tellers'"
        assert connection.execute(tuples).fetchone() == (10.0,)


@pytest.mark.parametrize("mode", ["simple", "extended", "prepared"])
def test_reads(cluster, mode):
    assert pgbench(cluster, "-S", "-M", mode, "-t", "25") == 200


@pytest.mark.parametrize("mode", ["simple", "extended", "prepared"])
@pytest.mark.parametrize("script", [["-N"], []], ids=["updates of one row", "TPC-B"])
def test_updates_wait_and_add_up(cluster, script, mode):
    with connect(cluster) as connection:
        number = lambda query: connection.execute(query).fetchone()[0]
        before = number("SELECT sum(abalance) FROM pgbench_accounts")
        assert pgbench(cluster, *script, "-M", mode, "-t", "10") == 80
        assert number("SELECT count(*) FROM pgbench_history") == 80  # It was emptied first.
        deltas = number("SELECT sum(delta) FROM pgbench_history")
        assert number("SELECT sum(abalance) FROM pgbench_accounts") == before + deltas
        tellers = number("SELECT sum(tbalance) FROM pgbench_tellers")
        assert number("SELECT sum(bbalance) FROM pgbench_branches") == tellers
