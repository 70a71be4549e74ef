"""Transactions that change more than an entry of the log holds. What an entry holds is made small here, so that some
thousand rows are many pieces: the same as a million rows with the setting of production."""

import pathlib
import re
import signal
import threading
import time

import psycopg
import pytest

from conftest import Cluster, kill, wait_until
from faults import ask_admin
from test_sql import connect

ROWS = 20_000
LEFT = re.compile(rb"^orbit_(?:transaction_(?:parts|intents|locks|scopes)|lock_waiters) (\S+)$", re.MULTILINE)


def small(*options):
    cluster = Cluster(*options)
    cluster.environment["ORBIT_TRANSACTION_ENTRY"] = "32KB"
    return cluster


@pytest.fixture(scope="module", params=[1, 4], ids=["one shard", "four shards"])
def cluster(request):
    with small("--shards", str(request.param)) as running:
        yield running


@pytest.fixture
def connection(cluster):
    with connect(cluster) as open_connection:
        open_connection.execute("DROP TABLE IF EXISTS t")
        open_connection.execute("CREATE TABLE t (a int PRIMARY KEY, b int, c text)")
        yield open_connection


def load(connection, first=0, rows=ROWS):
    with connection.cursor().copy("COPY t FROM STDIN") as copy:
        copy.write("".join(f"{number}\t0\t{'x' * 80}\n" for number in range(first, first + rows)))


def rows(connection, condition="true"):
    return connection.execute(f"SELECT count(*) FROM t WHERE {condition}").fetchone()[0]


def is_clean(cluster):
    """Whether nothing is left of any transaction: no part, no lock, no scope."""
    for path in pathlib.Path(cluster.data, "run").glob("n*.admin"):
        page = ask_admin(path, "/metrics")
        if page is None or any(float(value) for value in LEFT.findall(page)):
            return False
    return True


def test_copy_update_and_rollback(cluster, connection):
    load(connection)
    assert rows(connection) == ROWS
    assert connection.execute("UPDATE t SET b = b + 1").rowcount == ROWS
    assert rows(connection, "b = 1") == ROWS
    with connection.transaction(force_rollback=True):
        load(connection, ROWS)
        connection.execute("UPDATE t SET b = 7")
        assert rows(connection, "b = 7") == 2 * ROWS
    assert (rows(connection), rows(connection, "b = 7")) == (ROWS, 0)
    with connection.transaction():
        connection.execute("TRUNCATE t")
        load(connection, ROWS)
        connection.execute(f"DELETE FROM t WHERE a < {ROWS + 100}")
    assert connection.execute("SELECT count(*), min(a) FROM t").fetchone() == (ROWS - 100, ROWS + 100)
    statement = f"INSERT INTO t SELECT g, g % 7, 'y' FROM generate_series(1, {ROWS}) g"
    assert connection.execute(statement).rowcount == ROWS
    assert rows(connection, "c = 'y'") == ROWS
    connection.execute("CREATE INDEX ON t (b)")
    assert rows(connection, "b = 3 AND c = 'y'") == len([g for g in range(1, ROWS + 1) if g % 7 == 3])
    with pytest.raises(psycopg.errors.UniqueViolation):
        load(connection, ROWS - 10, 11)
    wait_until(lambda: is_clean(cluster), "the end of all transactions")


def test_readers_see_all_or_nothing(cluster, connection):
    load(connection)
    seen, is_over = set(), threading.Event()

    def watch():
        with connect(cluster) as reader:
            while not is_over.is_set():
                counts = reader.execute("SELECT count(*), count(*) FILTER (WHERE b = 1) FROM t").fetchone()
                seen.add(counts)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        connection.execute("UPDATE t SET b = 1")
        load(connection, ROWS)
        with connect(cluster) as other:
            assert rows(other) == 2 * ROWS
    finally:
        is_over.set()
        watcher.join()
    assert seen <= {(ROWS, 0), (ROWS, ROWS), (2 * ROWS, ROWS)}, seen


def commit(connection, told):
    try:
        load(connection)
        connection.execute("INSERT INTO done VALUES (1)")
        told.append(time.monotonic())
        connection.execute("COMMIT")
        told.append("committed")
    except psycopg.Error as error:
        told.append(error)


def killed(cluster, delay, victims):
    """Whether the transaction is there, after a node was killed so long after COMMIT was sent; and what was told."""
    told = []
    with connect(cluster) as connection:
        for statement in (
            "DROP TABLE IF EXISTS t, done", "CREATE TABLE t (a int PRIMARY KEY, b int, c text)",
            "CREATE TABLE done (a int PRIMARY KEY)", "BEGIN",
        ):  # fmt: skip
            connection.execute(statement)
        committer = threading.Thread(target=commit, args=(connection, told))
        committer.start()
        wait_until(lambda: told, "COMMIT")
        assert isinstance(told[0], float), told
        before = cluster.pids()
        wait_until(lambda: time.monotonic() >= told[0] + delay, "the moment")
        for victim in victims:
            kill(before[victim], signal.SIGKILL)
        committer.join()
    wait_until(lambda: all(cluster.pids().get(v, before[v]) != before[v] for v in victims), "the restart")
    cluster.wait_ready()
    wait_until(lambda: is_clean(cluster), "the end of all transactions")

    def counts():
        try:
            with connect(cluster) as connection:
                return [connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in ("t", "done")]
        except psycopg.Error:
            return None

    found = wait_until(counts, "the tables")
    assert found in ([0, 0], [ROWS, 1]), (delay, found)
    if told[1] == "committed":
        assert found[1] == 1, delay
    return found[1], str(told[1])[:60]


@pytest.mark.crash
@pytest.mark.parametrize("shards", [1, 4])
def test_a_node_is_killed(shards):
    with small("--shards", str(shards)) as cluster:
        outcomes = [killed(cluster, delay, ["storage-node-1"]) for delay in (0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1.2)]
        print(outcomes)


@pytest.mark.crash
def test_a_leader_of_three_replicas_is_killed():
    with small("--nodes", "3") as cluster:
        for number, delay in enumerate((0.05, 0.2, 0.4, 0.8)):
            print(killed(cluster, delay, [f"storage-node-{number % 3 + 1}"]))
