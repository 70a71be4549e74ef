"""Pipelines of psycopg, asynchronous clients, portals that take turns, and COPY between them. What is expected here is
what PostgreSQL 15 does: ORBIT_POSTGRESQL (a connection string) has the tests ask one."""

import asyncio
import os

import psycopg
import pytest
from psycopg import pq

from conftest import Cluster

TABLE = "CREATE TABLE {} (a int PRIMARY KEY, b text)"


@pytest.fixture(scope="module")
def where():
    other = os.environ.get("ORBIT_POSTGRESQL")
    if other:
        yield other
        return
    with Cluster("--shards", "2") as cluster:
        port = 5432 + cluster.offset
        yield f"host=127.0.0.1 port={port} user=orbit password={cluster.password} dbname=orbit connect_timeout=60"


@pytest.fixture
def connection(where):
    with psycopg.connect(where, autocommit=True) as open_connection:
        yield open_connection


@pytest.fixture
def table(connection, request):
    name = request.node.name.split("[")[0]
    connection.execute(f"DROP TABLE IF EXISTS {name}")
    connection.execute(TABLE.format(name))
    return name


def test_a_pipeline_is_answered_in_order(connection, table):
    with connection.pipeline():
        cursors = [connection.execute("SELECT %s::int * 2", (number,)) for number in range(200)]
        connection.execute(f"INSERT INTO {table} VALUES (1, 'x')")
        last = connection.execute(f"SELECT b FROM {table} WHERE a = 1")
    assert [cursor.fetchone()[0] for cursor in cursors] == [number * 2 for number in range(200)]
    assert last.fetchall() == [("x",)]


def test_many_rows_at_once(connection, table):
    with connection.pipeline(), connection.cursor() as cursor:
        cursor.executemany(f"INSERT INTO {table} VALUES (%s, %s)", [(number, str(number)) for number in range(500)])
    assert connection.execute(f"SELECT count(*), sum(a) FROM {table}").fetchone() == (500, 124750)
    with connection.pipeline(), connection.cursor() as cursor:
        query = f"UPDATE {table} SET b = %s WHERE a = %s RETURNING a"
        cursor.executemany(query, [("y", 3), ("z", 1000), ("w", 4)], returning=True)
        found = []
        while True:
            found.append(cursor.fetchall())
            if not cursor.nextset():
                break
    assert found == [[(3,)], [], [(4,)]]


def test_between_two_syncs_is_a_transaction(connection, table):
    with pytest.raises(psycopg.errors.UniqueViolation):
        with connection.pipeline():
            connection.execute(f"INSERT INTO {table} VALUES (1, 'a')")
            connection.execute(f"INSERT INTO {table} VALUES (1, 'b')")
            connection.execute(f"INSERT INTO {table} VALUES (2, 'c')")
    assert connection.execute(f"SELECT * FROM {table}").fetchall() == []
    with pytest.raises(psycopg.errors.DivisionByZero):
        with connection.pipeline() as pipeline:
            connection.execute(f"INSERT INTO {table} VALUES (1, 'a')")
            pipeline.sync()
            connection.execute("SELECT 1 / 0")
            connection.execute(f"INSERT INTO {table} VALUES (2, 'b')")
    assert connection.execute(f"SELECT a FROM {table}").fetchall() == [(1,)]


def test_what_follows_an_error_is_skipped(connection, table):
    with connection.pipeline() as pipeline:
        failing = connection.execute("SELECT 1 / %s::int", (0,))
        with pytest.raises(psycopg.errors.DivisionByZero):
            pipeline.sync()
        good = connection.execute("SELECT 2")
        pipeline.sync()
        assert good.fetchone() == (2,)
    assert failing.rowcount == -1


def test_blocks_in_a_pipeline(connection, table):
    with connection.pipeline():
        with connection.transaction():
            connection.execute(f"INSERT INTO {table} VALUES (1, 'a')")
        with pytest.raises(psycopg.errors.UniqueViolation):
            with connection.transaction():
                connection.execute(f"INSERT INTO {table} VALUES (2, 'b')")
                connection.execute(f"INSERT INTO {table} VALUES (1, 'c')").fetchone()
        with connection.transaction():
            connection.execute(f"INSERT INTO {table} VALUES (3, 'd')")
            with pytest.raises(psycopg.errors.DivisionByZero):
                with connection.transaction():
                    connection.execute("SELECT 1 / 0").fetchone()
    assert connection.execute(f"SELECT a FROM {table} ORDER BY a").fetchall() == [(1,), (3,)]


# The messages themselves: libpq's pipeline mode, without what psycopg makes of it.


def results(connection, *, until):
    """What comes back, a word each, until there were so many Syncs."""
    words, syncs = [], 0
    while syncs < until:
        result = connection.get_result()
        if result is None:
            continue
        words.append(pq.ExecStatus(result.status).name)
        if result.status == pq.ExecStatus.FATAL_ERROR:
            words[-1] += " " + result.error_field(pq.DiagnosticField.SQLSTATE).decode()
        syncs += result.status == pq.ExecStatus.PIPELINE_SYNC
    return words


@pytest.fixture
def raw(connection, table):
    """A connection of libpq, blocking, in pipeline mode."""
    connection.pgconn.nonblocking = 0
    connection.pgconn.enter_pipeline_mode()
    return connection.pgconn


def test_errors_at_every_step(raw, table):
    def send(text):
        raw.send_query_params(text.encode(), None)

    send("SELECT 1")
    send("SELECT nothing")
    send(f"INSERT INTO {table} VALUES (1, 'a')")
    raw.pipeline_sync()
    send(f"INSERT INTO {table} VALUES (2, 'b')")
    raw.send_prepare(b"p", b"SELECT $1::int / $2::int")
    raw.send_query_prepared(b"p", [b"6", b"3"])
    raw.send_query_prepared(b"p", [b"6", b"0"])
    raw.send_describe_prepared(b"p")
    raw.pipeline_sync()
    raw.send_describe_prepared(b"p")
    raw.send_query_prepared(b"p", [b"x", b"0"])
    raw.send_query_prepared(b"p", [b"8", b"2"])
    raw.pipeline_sync()
    raw.send_query_prepared(b"p", [b"8", b"2"])
    raw.pipeline_sync()
    assert results(raw, until=4) == [
        "TUPLES_OK", "FATAL_ERROR 42703", "PIPELINE_ABORTED", "PIPELINE_SYNC",
        "COMMAND_OK", "COMMAND_OK", "TUPLES_OK", "FATAL_ERROR 22012", "PIPELINE_ABORTED", "PIPELINE_SYNC",
        "COMMAND_OK", "FATAL_ERROR 22P02", "PIPELINE_ABORTED", "PIPELINE_SYNC",
        "TUPLES_OK", "PIPELINE_SYNC",
    ]  # fmt: skip
    raw.exit_pipeline_mode()
    assert raw.exec_(f"SELECT * FROM {table}".encode()).ntuples == 0


# Portals that take turns.


def test_portals_take_turns(connection, table):
    connection.execute(f"INSERT INTO {table} SELECT g, 'n' || g FROM generate_series(1, 300) g")
    with connection.transaction():
        for name in ("one", "two"):
            connection.execute(f"DECLARE {name} CURSOR FOR SELECT a FROM {table} ORDER BY a")
        found = {"one": [], "two": []}
        for step in range(1, 30):
            for name, count in (("one", step), ("two", 7)):
                found[name] += [row[0] for row in connection.execute(f"FETCH {count} FROM {name}").fetchall()]
            connection.execute(f"UPDATE {table} SET b = 'changed' WHERE a = %s", (step,))
            connection.execute(f"DELETE FROM {table} WHERE a = %s", (301 - step,))
        assert found["one"] == list(range(1, 301)) and found["two"] == list(range(1, 204))
    assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (271,)


def test_cursors_of_the_server_in_a_pipeline(connection, table):
    connection.execute(f"INSERT INTO {table} SELECT g, 'n' || g FROM generate_series(1, 100) g")
    with connection.transaction(), connection.cursor("named") as cursor:
        cursor.execute(f"SELECT a FROM {table} ORDER BY a")
        with connection.pipeline():
            others = [connection.execute("SELECT %s::int", (number,)) for number in range(5)]
            assert [other.fetchone() for other in others] == [(number,) for number in range(5)]
        assert [row[0] for row in cursor.fetchmany(10)] == list(range(1, 11))
        assert [row[0] for row in cursor] == list(range(11, 101))


# Asynchronous clients.


def test_asynchronous_clients(where, connection, table):
    async def client(number):
        async with await psycopg.AsyncConnection.connect(where, autocommit=True) as own:
            async with own.pipeline(), own.cursor() as cursor:
                rows = [(number * 100 + place, f"{number}") for place in range(50)]
                await cursor.executemany(f"INSERT INTO {table} VALUES (%s, %s)", rows)
            async with own.transaction():
                await own.execute(f"UPDATE {table} SET b = b || '!' WHERE b = %s", (str(number),))
            found = []
            async with own.transaction(), own.cursor("rows") as cursor:
                await cursor.execute(f"SELECT a FROM {table} WHERE b = %s ORDER BY a", (f"{number}!",))
                async for row in cursor:
                    found.append(row[0])
            assert found == [number * 100 + place for place in range(50)]

    async def all_of_them():
        await asyncio.gather(*(client(number) for number in range(8)))

    asyncio.run(all_of_them())
    assert connection.execute(f"SELECT count(*) FROM {table} WHERE b LIKE '%%!'").fetchone() == (400,)


def test_an_asynchronous_copy(where, connection, table):
    async def copy():
        async with await psycopg.AsyncConnection.connect(where, autocommit=True) as own, own.cursor() as cursor:
            async with cursor.copy(f"COPY {table} FROM STDIN") as stream:
                for number in range(1000):
                    await stream.write_row((number, f"n{number}"))
            rows = []
            async with cursor.copy(f"COPY (SELECT a FROM {table} ORDER BY a) TO STDOUT") as stream:
                async for row in stream.rows():
                    rows.append(int(row[0]))
            return rows

    assert asyncio.run(copy()) == list(range(1000))
