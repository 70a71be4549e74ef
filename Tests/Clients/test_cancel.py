"""Statements that are given up: by a request to cancel, a time-out, or a client that goes away. Their rows and locks are
free afterwards."""

import threading

import psycopg
import pytest

from conftest import Cluster, wait_until
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
