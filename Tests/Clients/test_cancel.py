"""Statements that are given up: by a request to cancel, a time-out, or a client that goes away. Their rows and locks
are free afterwards."""

import threading

import psycopg
import pytest

from conftest import Cluster, wait_until
from test_interactive import waiting
from test_sql import connect

LONG = "SELECT count(*) FROM generate_series(1, 2000000000) a"


@pytest.fixture(scope="module")
def cluster():
    with Cluster("--shards", "4") as running:
        with connect(running) as connection:
            connection.execute("CREATE TABLE t (a int PRIMARY KEY, b int)")
            connection.execute("INSERT INTO t SELECT g, 0 FROM generate_series(1, 2000) g")
        yield running


@pytest.fixture
def connection(cluster):
    with connect(cluster) as open_connection:
        yield open_connection


def cancelled(connection, statement):
    """Runs a statement, and cancels it when it runs; returns the error."""
    stop = threading.Event()

    def cancel():
        while not stop.wait(0.1):
            connection.cancel()

    thread = threading.Thread(target=cancel)
    thread.start()
    try:
        with pytest.raises(psycopg.errors.QueryCanceled, match="canceling statement due to user request") as caught:
            connection.execute(statement)
    finally:
        stop.set()
        thread.join()
    return caught.value


def test_a_long_statement_is_cancelled(connection):
    cancelled(connection, LONG)
    assert connection.execute("SELECT 1").fetchone() == (1,)
    connection.execute("BEGIN")
    cancelled(connection, LONG)
    with pytest.raises(psycopg.errors.InFailedSqlTransaction):
        connection.execute("SELECT 1")
    connection.execute("ROLLBACK")


def test_statement_timeout(connection):
    connection.execute("SET statement_timeout = '200ms'")
    with pytest.raises(psycopg.errors.QueryCanceled, match="canceling statement due to statement timeout"):
        connection.execute(LONG)
    assert connection.execute("SELECT count(*) FROM t WHERE a = 1").fetchone() == (1,)


def test_a_statement_may_take_longer_than_a_node_is_asked_once(connection):
    """The node says after 5 s that it is under way, and is asked again: nobody but its own time-out ends it."""
    connection.execute("SET statement_timeout = '6s'")
    for begin, end in ((None, None), ("BEGIN", "ROLLBACK")):
        if begin:
            connection.execute(begin)
        with pytest.raises(psycopg.errors.QueryCanceled, match="canceling statement due to statement timeout"):
            connection.execute(LONG)
        if end:
            connection.execute(end)
    assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_statement_on_one_record_is_cancelled(cluster, connection):
    update = "UPDATE t SET b = %s WHERE a = 11"
    for number in range(8):  # From the second on it goes to the record's shard at once.
        connection.execute(update, (number,))
    with connect(cluster) as other:
        with other.transaction():
            other.execute("UPDATE t SET b = 100 WHERE a = 11")
            cancelled(connection, "UPDATE t SET b = 200 WHERE a = 11")
            connection.execute("SET statement_timeout = '300ms'")
            with pytest.raises(psycopg.errors.QueryCanceled, match="canceling statement due to statement timeout"):
                connection.execute(update, (300,))
            connection.execute("SET statement_timeout = 0")
            # Reads wait for nobody.
            assert connection.execute("SELECT b FROM t WHERE a = 11").fetchone() == (7,)
        assert connection.execute("SELECT b FROM t WHERE a = 11").fetchone() == (100,)
    connection.execute(update, (12,))
    assert connection.execute("SELECT b FROM t WHERE a = 11").fetchone() == (12,)


def test_a_lock_timeout_within_a_transaction(cluster, connection):
    with connect(cluster) as other, other.transaction():
        other.execute("UPDATE t SET b = 1 WHERE a = 12")
        with connection.transaction():
            connection.execute("UPDATE t SET b = 1 WHERE a = 13")
            with pytest.raises(psycopg.errors.LockNotAvailable, match="canceling statement due to lock timeout"):
                with connection.transaction():  # A savepoint.
                    connection.execute("SET LOCAL lock_timeout = '50ms'")
                    connection.execute("UPDATE t SET b = 2 WHERE a = 12")
            connection.execute("UPDATE t SET b = 3 WHERE a = 13")
    assert connection.execute("SELECT b FROM t WHERE a = 13").fetchone() == (3,)


def test_a_lock_is_waited_for_without_a_limit(cluster, connection):
    assert connection.execute("SHOW lock_timeout").fetchone() == ("0",)
    with connect(cluster) as other:
        other.execute("BEGIN")
        other.execute("UPDATE t SET b = 1 WHERE a = 14")
        update = "UPDATE t SET b = b + 1 WHERE a IN (14, 15)"
        thread = threading.Thread(target=connection.execute, args=(update,))
        thread.start()
        waiting(cluster)
        other.execute("COMMIT")
        thread.join()
    assert connection.execute("SELECT b FROM t WHERE a = 14").fetchone() == (2,)


def test_a_wait_for_a_lock_is_cancelled(cluster, connection):
    with connect(cluster) as other, other.transaction():
        other.execute("UPDATE t SET b = 1 WHERE a = 1")
        with connection.transaction():
            connection.execute("UPDATE t SET b = 2 WHERE a = 2")
            try:
                cancelled(connection, "UPDATE t SET b = 2 WHERE a < 5")
            finally:
                # What the transaction had locked is free.
                wait_until(lambda: connect(cluster).execute("UPDATE t SET b = 3 WHERE a = 2").rowcount == 1)
                connection.execute("ROLLBACK")
                connection.execute("BEGIN")
        connection.execute("SET lock_timeout = '100ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable, match="canceling statement due to lock timeout"):
            connection.execute("UPDATE t SET b = 2 WHERE a = 1")
        connection.execute("SET lock_timeout = 0")
        connection.execute("SET statement_timeout = '200ms'")
        with pytest.raises(psycopg.errors.QueryCanceled, match="statement timeout"):
            connection.execute("UPDATE t SET b = 2 WHERE a = 1")
    assert connection.execute("SELECT a, b FROM t WHERE a < 3 ORDER BY a").fetchall() == [(1, 1), (2, 3)]


def test_a_cancelled_wait_leaves_a_savepoint(cluster, connection):
    with connect(cluster) as other, other.transaction():
        other.execute("UPDATE t SET b = 1 WHERE a IN (21, 22, 23, 24)")
        connection.execute("BEGIN")
        connection.execute("UPDATE t SET b = 5 WHERE a = 30")
        connection.execute("SAVEPOINT s")
        connection.execute("UPDATE t SET b = 6 WHERE a = 31")
        cancelled(connection, "UPDATE t SET b = 2 WHERE a IN (21, 22, 23, 24, 31)")
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            connection.execute("SELECT 1")
        connection.execute("ROLLBACK TO s")
        connection.execute("SET LOCAL statement_timeout = '100ms'")
        with pytest.raises(psycopg.errors.QueryCanceled, match="canceling statement due to statement timeout"):
            connection.execute("UPDATE t SET b = 3 WHERE a = 22")
        connection.execute("ROLLBACK TO s")
        connection.execute("UPDATE t SET b = b + 1 WHERE a = 30")
    connection.execute("UPDATE t SET b = 4 WHERE a IN (23, 33)")
    connection.execute("COMMIT")
    rows = connection.execute("SELECT a, b FROM t WHERE a IN (21, 22, 23, 30, 31, 33) ORDER BY a").fetchall()
    assert rows == [(21, 1), (22, 1), (23, 4), (30, 6), (31, 0), (33, 4)]


def test_who_goes_away_leaves_no_lock(cluster, connection):
    other = connect(cluster)
    other.execute("BEGIN")
    other.execute("UPDATE t SET b = 9 WHERE a = 7")
    other.pgconn.finish()
    connection.execute("SET lock_timeout = '20s'")
    connection.execute("UPDATE t SET b = 10 WHERE a = 7")
    assert connection.execute("SELECT b FROM t WHERE a = 7").fetchone() == (10,)


def test_copy_is_cancelled(cluster, connection):
    copy = connection.cursor().copy("COPY t FROM STDIN")
    stream = copy.__enter__()
    stream.write(b"100001\t1\n" * 1)
    connection.cancel()
    with pytest.raises(psycopg.errors.QueryCanceled, match="canceling statement due to user request"):
        copy.__exit__(None, None, None)
    assert connection.execute("SELECT count(*) FROM t WHERE a > 100000").fetchone() == (0,)
