"""Native keys of Redis as tables of schema `redis`: what each side writes the other reads at once, on four shards."""

import datetime
import signal
import subprocess

import psycopg
import pytest
from redis.exceptions import WatchError

from conftest import PATIENCE, Cluster, kill, wait_until
from test_sql import connect as sql

SHARDS = 4


@pytest.fixture(scope="module")
def cluster():
    with Cluster("--shards", str(SHARDS)) as running:
        yield running


@pytest.fixture
def both(cluster):
    """A connection of each side; no key is left in the end."""
    with sql(cluster) as connection, cluster.client(decode_responses=True) as client:
        yield connection, client
        client.flushall()


def test_each_side_reads_what_the_other_wrote_at_once(both):
    connection, client = both
    for number in range(20):  # On all shards.
        key = f"s{number}"
        client.set(key, f"v{number}")
        rows = connection.execute("SELECT db, value, expires_at FROM redis.strings WHERE key = %s", (key,)).fetchall()
        assert rows == [(0, f"v{number}", None)]
        connection.execute("UPDATE redis.strings SET value = value || '!' WHERE key = %s", (key,))
        assert client.get(key) == f"v{number}!"
        connection.execute("INSERT INTO redis.hashes (key, field, value) VALUES (%s, 'a', '1')", (f"h{number}",))
        assert client.hincrby(f"h{number}", "a", 2) == 3 and client.hset(f"h{number}", "b", "x") == 1
        rows = connection.execute(
            "SELECT field, value FROM redis.hashes WHERE key = %s ORDER BY field", (f"h{number}",)
        ).fetchall()
        assert rows == [("a", "3"), ("b", "x")]
    types = connection.execute("SELECT type, count(*) FROM redis.keys GROUP BY type ORDER BY type").fetchall()
    assert types == [("hash", 20), ("string", 20)]
    assert connection.execute("DELETE FROM redis.hashes WHERE field = 'a'").rowcount == 20
    assert client.hgetall("h3") == {"b": "x"}
    assert connection.execute("DELETE FROM redis.keys WHERE key LIKE 'h%'").rowcount == 20
    assert client.dbsize() == 20
    assert connection.execute("DELETE FROM redis.strings WHERE key IN ('s1', 's2', 'none')").rowcount == 2
    assert client.exists("s1", "s2", "s3") == 1


def test_databases_are_a_column(cluster, both):
    connection, client = both
    connection.execute("INSERT INTO redis.strings (db, key, value) VALUES (0, 'k', 'zero'), (5, 'k', 'five')")
    with cluster.client(decode_responses=True, db=5) as other:
        assert (client.get("k"), other.get("k")) == ("zero", "five")
        assert connection.execute("SELECT db, value FROM redis.strings WHERE key = 'k' ORDER BY db").fetchall() == [
            (0, "zero"), (5, "five")
        ]
        assert connection.execute("SELECT value FROM redis.strings WHERE db >= 3").fetchall() == [("five",)]
    with pytest.raises(psycopg.errors.NumericValueOutOfRange):
        connection.execute("INSERT INTO redis.strings (db, key, value) VALUES (16, 'k', '')")
    assert connection.execute("SELECT * FROM redis.strings WHERE db = 77").fetchall() == []


def test_types_are_exclusive(both):
    connection, client = both
    client.set("text", "x")
    client.hset("hash", "f", "x")
    for statement in [
        "INSERT INTO redis.hashes (key, field, value) VALUES ('text', 'f', 'y')",
        "INSERT INTO redis.strings (key, value) VALUES ('hash', 'y')",
        "INSERT INTO redis.strings (key, value) VALUES ('free', 'y'), ('hash', 'y') ON CONFLICT DO NOTHING",
    ]:
        with pytest.raises(psycopg.errors.DatatypeMismatch, match="wrong kind of value"):
            connection.execute(statement)
    assert client.exists("free") == 0
    assert connection.execute("SELECT * FROM redis.strings WHERE key = 'hash'").fetchall() == []
    assert connection.execute("SELECT * FROM redis.hashes WHERE key = 'text'").fetchall() == []
    assert connection.execute("SELECT * FROM redis.hashes WHERE key = 'text' AND field = 'f'").fetchall() == []
    assert connection.execute("DELETE FROM redis.strings WHERE key = 'hash'").rowcount == 0
    with pytest.raises(psycopg.errors.FeatureNotSupported):
        connection.execute("UPDATE redis.keys SET type = 'hash' WHERE key = 'text'")
    with pytest.raises(psycopg.errors.FeatureNotSupported):
        connection.execute("INSERT INTO redis.keys (key, type) VALUES ('new', 'string')")
    assert client.get("text") == "x" and client.hgetall("hash") == {"f": "x"}


def test_what_is_no_text_is_not_shown_and_not_changed(cluster, both):
    connection, _ = both
    with cluster.client() as client:
        client.set(b"bytes", b"\xff\x00")
        client.set(b"\xfe", b"text")
        with pytest.raises(psycopg.errors.CharacterNotInRepertoire, match="UTF8"):
            connection.execute("SELECT value FROM redis.strings WHERE key = 'bytes'")
        assert connection.execute("SELECT count(*) FROM redis.strings").fetchone() == (2,)
        assert connection.execute("SELECT db FROM redis.keys").fetchall() == [(0,), (0,)]
        with pytest.raises(psycopg.errors.CharacterNotInRepertoire):
            connection.execute("SELECT key FROM redis.keys")
        connection.execute("INSERT INTO redis.strings (key, value) VALUES ('naïve', '✓')")
        assert client.get("naïve") == "✓".encode()
        assert client.get(b"bytes") == b"\xff\x00"


def test_time_to_live_is_a_column(both):
    connection, client = both
    at = datetime.datetime(2100, 1, 1, tzinfo=datetime.timezone.utc)
    connection.execute("INSERT INTO redis.strings (key, value, expires_at) VALUES ('a', '1', %s)", (at,))
    assert client.pexpiretime("a") == int(at.timestamp()) * 1000
    connection.execute("UPDATE redis.strings SET value = '2' WHERE key = 'a'")
    assert client.pexpiretime("a") == int(at.timestamp()) * 1000 and client.get("a") == "2"
    client.hset("h", "f", "1")
    connection.execute("UPDATE redis.keys SET expires_at = %s WHERE key IN ('a', 'h')", (at + datetime.timedelta(1),))
    assert client.pexpiretime("h") == client.pexpiretime("a") == int(at.timestamp() + 86400) * 1000
    assert client.persist("a") == 1
    assert connection.execute("SELECT key, expires_at FROM redis.keys ORDER BY key").fetchall() == [
        ("a", None), ("h", at + datetime.timedelta(1))
    ]
    connection.execute("UPDATE redis.keys SET expires_at = NULL")
    assert client.ttl("h") == -1
    client.pexpire("h", 1)
    wait_until(lambda: connection.execute("SELECT * FROM redis.hashes").fetchall() == [], "the hash's end")
    connection.execute("UPDATE redis.strings SET expires_at = now() - interval '1 hour' WHERE key = 'a'")
    assert client.exists("a") == 0 and connection.execute("SELECT * FROM redis.keys").fetchall() == []
    with pytest.raises(psycopg.errors.NotNullViolation):
        connection.execute("INSERT INTO redis.strings (key) VALUES ('a')")


def test_what_is_not_committed_is_not_seen(cluster, both):
    connection, client = both
    client.set("there", "old")
    connection.execute("BEGIN")
    connection.execute("INSERT INTO redis.strings (key, value) SELECT 'k' || n, n::text FROM generate_series(1, 20) n")
    connection.execute("UPDATE redis.strings SET value = 'new' WHERE key = 'there'")
    connection.execute("INSERT INTO redis.hashes (key, field, value) VALUES ('h', 'f', 'v')")
    assert client.dbsize() == 1 and client.get("there") == "old"
    assert connection.execute("SELECT count(*) FROM redis.keys").fetchone() == (22,)
    connection.execute("SAVEPOINT a")
    connection.execute("DELETE FROM redis.strings")
    assert connection.execute("SELECT count(*) FROM redis.keys").fetchone() == (1,)
    connection.execute("ROLLBACK TO a")
    connection.execute("COMMIT")
    assert client.dbsize() == 22 and client.get("there") == "new"
    connection.execute("BEGIN")
    connection.execute("DELETE FROM redis.keys")
    connection.execute("ROLLBACK")
    assert client.dbsize() == 22
    with client.pipeline() as pipeline:
        pipeline.watch("there")
        connection.execute("UPDATE redis.strings SET value = 'newer' WHERE key = 'there'")
        pipeline.multi()
        pipeline.set("there", "lost")
        with pytest.raises(WatchError):
            pipeline.execute()
    # The lock of a row is that of the key.
    connection.execute("BEGIN")
    connection.execute("SELECT * FROM redis.strings WHERE key = 'there' FOR UPDATE")
    with sql(cluster) as other:
        with pytest.raises(psycopg.errors.LockNotAvailable):
            other.execute("SELECT * FROM redis.strings WHERE key = 'there' FOR UPDATE NOWAIT")
    connection.execute("ROLLBACK")


def test_a_transaction_that_both_take_part_in(cluster, both):
    connection, client = both
    connection.execute("BEGIN")
    connection.execute("INSERT INTO redis.strings (key, value) VALUES ('n', '1')")
    token = connection.execute("SHOW orbit.transaction_id").fetchone()[0]
    with cluster.client(decode_responses=True, single_connection_client=True) as member:
        assert member.execute_command("CLIENT TRANSACTION", "JOIN", token) in ("OK", b"OK")
        assert member.incrby("n", 4) == 5
        member.hset("h", "f", "v")
        assert connection.execute("SELECT value FROM redis.strings WHERE key = 'n'").fetchone() == ("5",)
        assert connection.execute("SELECT * FROM redis.hashes").fetchall() == [(0, "h", "f", "v")]
        assert client.exists("n", "h") == 0
        connection.execute("COMMIT")
    assert client.get("n") == "5" and client.hgetall("h") == {"f": "v"}


def test_keys_that_name_records_are_no_keys(both):
    connection, client = both
    connection.execute("CREATE TABLE people (id bigint PRIMARY KEY, name text)")
    try:
        connection.execute("INSERT INTO people VALUES (1, 'Ada')")
        client.hset("people:2", "name", "Bob")
        client.set("other:1", "x")
        assert connection.execute("SELECT key FROM redis.keys").fetchall() == [("other:1",)]
        assert connection.execute("SELECT * FROM redis.hashes WHERE key = 'people:1'").fetchall() == []
        for statement in [
            "INSERT INTO redis.strings (key, value) VALUES ('people:3', 'x')",
            "INSERT INTO redis.hashes (key, field, value) VALUES ('people:1', 'name', 'Eve')",
        ]:
            with pytest.raises(psycopg.errors.WrongObjectType, match='names a record of table "people"'):
                connection.execute(statement)
        connection.execute("INSERT INTO redis.strings (db, key, value) VALUES (1, 'people:3', 'x')")
        assert connection.execute("SELECT name FROM people ORDER BY id").fetchall() == [("Ada",), ("Bob",)]
    finally:
        connection.execute("DROP TABLE people")


def test_many_keys_and_large_hashes_come_in_pages(both):
    connection, client = both
    with client.pipeline(transaction=False) as pipeline:
        for number in range(3000):
            pipeline.set(f"k{number}", "x" * 200)
        for start in range(0, 5000, 500):
            pipeline.hset("large", mapping={f"f{number}": str(number) for number in range(start, start + 500)})
        pipeline.execute()
    found = connection.execute("SELECT count(*), count(DISTINCT key), sum(length(value)) FROM redis.strings").fetchone()
    assert found == (3000, 3000, 600_000)
    found = connection.execute("SELECT count(*), sum(value::int) FROM redis.hashes").fetchone()
    assert found == (5000, sum(range(5000)))
    query = "SELECT count(*), count(DISTINCT field) FROM redis.hashes WHERE key = 'large'"
    assert connection.execute(query).fetchone() == (5000, 5000)
    assert len(connection.execute("SELECT key FROM redis.strings LIMIT 10").fetchall()) == 10
    assert connection.execute("UPDATE redis.strings SET value = key").rowcount == 3000
    assert client.mget("k7", "k2999") == ["k7", "k2999"]


def test_nothing_is_defined_in_the_schema(both):
    connection, _ = both
    for statement in [
        "CREATE TABLE redis.mine (id int)", "DROP TABLE redis.strings", "ALTER TABLE redis.strings ADD COLUMN x int",
        "CREATE INDEX ON redis.strings (value)", "TRUNCATE redis.strings", "CREATE VIEW redis.v AS SELECT 1",
    ]:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(statement)
    with pytest.raises(psycopg.errors.DependentObjectsStillExist, match="required by the database system"):
        connection.execute("DROP SCHEMA redis")
    with pytest.raises(psycopg.errors.DuplicateSchema):
        connection.execute("CREATE SCHEMA redis")


def test_psql_describes_the_tables(cluster):
    where = f"host=127.0.0.1 port={5432 + cluster.offset} user=orbit password={cluster.password} dbname=orbit"
    result = subprocess.run(
        ["psql", "-X", where, "-c", "\\d redis.strings"], capture_output=True, text=True, timeout=PATIENCE
    )
    assert result.stdout.splitlines() == [
        '                           Table "redis.strings"',
        "   Column   |            Type             | Collation | Nullable | Default ",
        "------------+-----------------------------+-----------+----------+---------",
        " db         | smallint                    |           | not null | 0",
        " key        | text                        |           | not null | ",
        " value      | text                        |           | not null | ",
        " expires_at | timestamp(3) with time zone |           |          | ",
        "Indexes:",
        '    "strings_pkey" PRIMARY KEY, btree (db, key)',
        "",
    ]


def test_rows_survive_the_nodes_end(cluster, both):
    connection, client = both
    connection.execute("INSERT INTO redis.strings (key, value) SELECT 'k' || n, n::text FROM generate_series(1, 20) n")
    client.hset("h", "f", "v")
    kill(cluster.pids()["storage-node-1"], signal.SIGKILL)
    wait_until(cluster.answers, "the node's return")
    with sql(cluster) as own:
        found = own.execute("SELECT count(*), sum(value::int) FROM redis.strings").fetchone()
        assert found == (20, 210)
        assert own.execute("SELECT field, value FROM redis.hashes WHERE key = 'h'").fetchall() == [("f", "v")]
