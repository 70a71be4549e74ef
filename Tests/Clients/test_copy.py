"""COPY of pg-gw with real clients: psql's \\copy, psycopg in text and binary, what goes wrong, and what stays of it."""

import subprocess
import threading

import psycopg
import pytest

from conftest import PATIENCE, Cluster
from test_sql import connect


@pytest.fixture(scope="module")
def cluster():
    with Cluster("--shards", "4") as running:
        yield running


@pytest.fixture
def connection(cluster):
    with connect(cluster) as open_connection:
        open_connection.execute("DROP TABLE IF EXISTS t")
        open_connection.execute("CREATE TABLE t (a int PRIMARY KEY, b text, c numeric(8,2), d timestamp)")
        yield open_connection


def load(connection, statement, *pieces):
    with connection.cursor() as cursor:
        with cursor.copy(statement) as copy:
            for piece in pieces:
                copy.write(piece)
        return cursor.statusmessage


def dump(connection, statement):
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        return b"".join(bytes(piece) for piece in copy)


def test_rows_come_back_as_they_went(connection):
    data = b"1\tone\t1.50\t2024-01-02 03:04:05\n2\t\\N\t\\N\t\\N\n3\ta\\tb\\\\c\\nd\t-7.00\tinfinity\n"
    halves = [data[:17], data[17:40], data[40:]]
    assert load(connection, "COPY t FROM STDIN", *halves) == "COPY 3"
    assert dump(connection, "COPY (SELECT * FROM t ORDER BY a) TO STDOUT") == data
    csv = dump(connection, "COPY (SELECT a, b FROM t ORDER BY a) TO STDOUT (FORMAT csv, HEADER, FORCE_QUOTE (b))")
    assert csv == b'a,b\n1,"one"\n2,\n3,"a\tb\\c\nd"\n'
    connection.execute("DELETE FROM t")
    assert load(connection, "COPY t (a, b) FROM STDIN (FORMAT csv, HEADER MATCH)", csv) == "COPY 3"
    assert connection.execute("SELECT b, c FROM t WHERE a = 3").fetchone() == ("a\tb\\c\nd", None)


def test_binary(connection):
    load(connection, "COPY t FROM STDIN", b"1\tone\t1.5\t2024-01-02 03:04:05\n2\t\\N\t\\N\t\\N\n")
    data = dump(connection, "COPY (SELECT * FROM t ORDER BY a) TO STDOUT (FORMAT binary)")
    assert data.startswith(b"PGCOPY\n\xff\r\n\0") and data.endswith(b"\xff\xff")
    connection.execute("DELETE FROM t")
    assert load(connection, "COPY t FROM STDIN (FORMAT binary)", data) == "COPY 2"
    assert dump(connection, "COPY (SELECT * FROM t ORDER BY a) TO STDOUT (FORMAT binary)") == data


def test_psql(cluster, connection, tmp_path):
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text('a,b\n1,"x, y"\n2,\n')
    where = f"host=127.0.0.1 port={5432 + cluster.offset} user=orbit password={cluster.password} dbname=orbit"
    script = f"""\\copy t (a, b) from '{source}' csv header
\\copy (select a, b from t order by a) to '{target}' csv header
copy t (a) from stdin;
3
\\.
"""
    result = subprocess.run(["psql", "-X", where], input=script, capture_output=True, text=True, timeout=PATIENCE)
    assert (result.stdout.split("\n")[:3], result.stderr) == (["COPY 2", "COPY 2", "COPY 1"], "")
    assert target.read_text() == 'a,b\n1,"x, y"\n2,\n'


@pytest.mark.parametrize(
    "statement, data, state, message, context",
    [
        ("COPY t FROM STDIN", b"1\tx\n", "22P04", 'missing data for column "c"', 'COPY t, line 1: "1\tx"'),
        ("COPY t (a) FROM STDIN", b"1\n2\tx\n", "22P04", "extra data after last expected column",
         'COPY t, line 2: "2\tx"'),
        ("COPY t (a) FROM STDIN", b"1\nx\n", "22P02", 'invalid input syntax for type integer: "x"',
         'COPY t, line 2, column a: "x"'),
        ("COPY t (a, c) FROM STDIN", b"1\t1\n2\t1e9\n", "22003", "numeric field overflow",
         'COPY t, line 2, column c: "1e9"'),
        ("COPY t (a) FROM STDIN", b"1\n2\n1\n", "23505", 'duplicate key value violates unique constraint "t_pkey"',
         "COPY t, line 3"),
        ("COPY t (b) FROM STDIN", b"x\n", "23502",
         'null value in column "a" of relation "t" violates not-null constraint', "COPY t, line 1"),
        ("COPY t (z) FROM STDIN", b"", "42703", 'column "z" of relation "t" does not exist', None),
        ("COPY nowhere FROM STDIN", b"", "42P01", 'relation "nowhere" does not exist', None),
        ("COPY t FROM STDIN (FREEZE)", b"", "55000", "cannot perform COPY FREEZE because the table was not created or "
         "truncated in the current subtransaction", None),
    ],
)  # fmt: skip
def test_errors_are_those_of_postgresql(connection, statement, data, state, message, context):
    with pytest.raises(psycopg.Error) as caught:
        load(connection, statement, data)
    found = caught.value.diag
    assert (found.sqlstate, found.message_primary, found.context) == (state, message, context)
    assert connection.execute("SELECT count(*) FROM t").fetchone() == (0,)


def test_all_or_nothing(cluster, connection):
    rows = b"".join(b"%d\tvalue %d\n" % (number, number) for number in range(5000))
    with pytest.raises(ZeroDivisionError):
        with connection.cursor().copy("COPY t (a, b) FROM STDIN") as copy:
            copy.write(rows)
            raise ZeroDivisionError
    with pytest.raises(psycopg.errors.UniqueViolation):
        load(connection, "COPY t (a, b) FROM STDIN", rows, b"17\tagain\n")
    other = connect(cluster)
    copy = other.cursor().copy("COPY t (a, b) FROM STDIN")
    copy.__enter__().write(rows)
    other.pgconn.finish()  # The client goes away in the middle.
    assert load(connection, "COPY t (a, b) FROM STDIN", rows) == "COPY 5000"
    assert connection.execute("SELECT count(*), sum(a) FROM t").fetchone() == (5000, 4999 * 2500)


def test_in_a_transaction(connection):
    with pytest.raises(ZeroDivisionError), connection.transaction():
        load(connection, "COPY t (a) FROM STDIN", b"1\n2\n")
        assert connection.execute("SELECT count(*) FROM t").fetchone() == (2,)
        raise ZeroDivisionError
    assert connection.execute("SELECT count(*) FROM t").fetchone() == (0,)
    with connection.transaction():
        connection.execute("CREATE TABLE fresh (a int PRIMARY KEY)")
        load(connection, "COPY fresh FROM STDIN WITH (FREEZE ON)", b"1\n2\n")
    assert connection.execute("SELECT count(*) FROM fresh").fetchone() == (2,)
    connection.execute("DROP TABLE fresh")
    connection.execute("BEGIN")
    with pytest.raises(psycopg.errors.DivisionByZero):
        connection.execute("SELECT 1 / 0")
    with pytest.raises(psycopg.errors.InFailedSqlTransaction):
        load(connection, "COPY t (a) FROM STDIN", b"1\n")
    connection.execute("ROLLBACK")


def test_several_clients_at_once(cluster, connection):
    def copy(first):
        with connect(cluster) as own:
            load(own, "COPY t (a, b) FROM STDIN", *(b"%d\tx\n" % number for number in range(first, first + 2000)))

    threads = [threading.Thread(target=copy, args=(first,)) for first in range(0, 8000, 2000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert connection.execute("SELECT count(*) FROM t").fetchone() == (8000,)
    assert dump(connection, "COPY t TO STDOUT").count(b"\n") == 8000
