"""pg-gw with real clients: psql and psycopg on clusters of real processes; the files of Tests/SQL over the wire; and
the same records from Redis."""

import signal
import subprocess
import threading

import psycopg
import pytest
from redis.exceptions import RedisError

import sqllogic
from conftest import PATIENCE, Cluster, kill, wait_until


def connect(cluster, **more):
    options = {"user": "orbit", "password": cluster.password, "dbname": "orbit", "autocommit": True, **more}
    return psycopg.connect(host="127.0.0.1", port=5432 + cluster.offset, connect_timeout=60, **options)


@pytest.fixture(scope="module", params=[1, 4], ids=["one shard", "four shards"])
def cluster(request):
    with Cluster("--shards", str(request.param)) as running:
        yield running


@pytest.fixture
def connection(cluster):
    with connect(cluster) as open_connection:
        yield open_connection


@pytest.mark.parametrize("name", sqllogic.files())
def test_answers_are_those_of_postgresql(cluster, name):
    with connect(cluster) as connection:
        found = sqllogic.differences(connection, name)
    assert not found, "\n".join(found)


def test_psql(cluster):
    script = """CREATE TABLE users (id bigint PRIMARY KEY, name text, age int);
INSERT INTO users VALUES (42, 'Ada', 36);
SELECT * FROM users WHERE id = 42;
SELECT nothing FROM users;
DROP TABLE users;
"""
    where = f"host=127.0.0.1 port={5432 + cluster.offset} user=orbit password={cluster.password} dbname=orbit"
    result = subprocess.run(
        ["psql", "-X", "-A", "-t", where], input=script, capture_output=True, text=True, timeout=PATIENCE
    )
    assert result.stdout.splitlines() == ["CREATE TABLE", "INSERT 0 1", "42|Ada|36", "DROP TABLE"]
    assert 'ERROR:  column "nothing" does not exist\nLINE 1: SELECT nothing FROM users;' in result.stderr


def test_a_wrong_password_is_refused(cluster):
    with pytest.raises(psycopg.OperationalError, match='password authentication failed for user "orbit"'):
        connect(cluster, password="wrong")


def test_parameters_and_formats(connection):
    values = (True, 7, 2**40, 1.5, "déjà vu", b"\x00\xff", None)
    row = connection.execute("SELECT %s::bool, %s::int, %s::bigint, %s::float8, %s::text, %s::bytea, %s::int", values)
    assert row.fetchone() == values
    with connection.cursor(binary=True) as cursor:
        cursor.execute("SELECT %b::bool, %b::int, %b::bigint, %b::float8, %b::text, %b::bytea, %b::int", values)
        assert cursor.fetchone() == values


def test_prepared_statements_follow_the_catalog(connection):
    connection.execute("CREATE TABLE kept (id int PRIMARY KEY, v text)")
    for number in range(8):  # psycopg prepares a statement on its sixth use.
        connection.execute("INSERT INTO kept VALUES (%s, %s)", (number, f"v{number}"))
        assert connection.execute("SELECT v FROM kept WHERE id = %s", (number,)).fetchone() == (f"v{number}",)
    connection.execute("ALTER TABLE kept ADD COLUMN w int")
    assert connection.execute("SELECT v, w FROM kept WHERE id = %s", (3,)).fetchone() == ("v3", None)
    connection.execute("DROP TABLE kept")
    with pytest.raises(psycopg.errors.UndefinedTable):
        connection.execute("SELECT v FROM kept WHERE id = %s", (3,))



def test_many_rows_come_in_pages(connection):
    connection.execute("CREATE TABLE many (id int PRIMARY KEY, v text)")
    connection.execute("INSERT INTO many SELECT g, repeat('x', 200) FROM generate_series(1, 20000) g")
    rows = connection.execute("SELECT id, v FROM many").fetchall()
    assert sorted(number for number, _ in rows) == list(range(1, 20001))
    assert {text for _, text in rows} == {"x" * 200}
    assert connection.execute("SELECT count(*), sum(id) FROM many").fetchone() == (20000, 200010000)
    connection.execute("DROP TABLE many")


def test_zones(connection):
    moment = "SELECT ('2024-07-01 12:00+00'::timestamptz)::text"
    assert connection.execute(moment).fetchone() == ("2024-07-01 12:00:00+00",)
    connection.execute("SET timezone = 'Europe/Berlin'")
    assert connection.execute(moment).fetchone() == ("2024-07-01 14:00:00+02",)
    # Names in any letters, also within a timestamp; rules as POSIX has them, which count WEST of Greenwich.
    named = "SELECT (timestamptz '2024-07-01 12:00 america/New_York')::text, time '10:00' AT TIME ZONE 'utc'"
    assert connection.execute(named).fetchone()[0] == "2024-07-01 18:00:00+02"
    rules = ("cst6cdt,m3.2.0,m11.1.0", "07:00:00-05"), ("+02:30", "09:30:00-02:30"), ("EUROPE/lisbon", "13:00:00+01")
    for zone, shown in rules:
        connection.execute(f"SET timezone = '{zone}'")
        assert connection.execute(moment).fetchone() == (f"2024-07-01 {shown}",)
    connection.execute("SET timezone = 'Asia/Tokyo'")
    for type_name in ("date", "timestamp"):
        with pytest.raises(psycopg.errors.DatetimeFieldOverflow):
            connection.execute(f"SELECT ({type_name} '4714-11-24 BC')::timestamptz::text")
    with pytest.raises(psycopg.errors.InvalidParameterValue):
        connection.execute("SET timezone = 'Nowhere/City'")


def test_transactions(cluster, connection):
    connection.execute("CREATE TABLE account (id int PRIMARY KEY, sum int)")
    connection.execute("INSERT INTO account VALUES (1, 100), (2, 100), (3, 100), (4, 100)")
    with connect(cluster) as other:
        with connection.transaction():
            connection.execute("UPDATE account SET sum = sum - 10 WHERE id = 1")
            connection.execute("UPDATE account SET sum = sum + 10 WHERE id = 2")
            assert connection.execute("SELECT sum FROM account WHERE id = 1").fetchone() == (90,)
            assert other.execute("SELECT sum FROM account WHERE id = 1").fetchone() == (100,)
        assert other.execute("SELECT sum FROM account ORDER BY id").fetchall() == [(90,), (110,), (100,), (100,)]
        with pytest.raises(psycopg.errors.DivisionByZero), connection.transaction():
            connection.execute("UPDATE account SET sum = 0")
            connection.execute("SELECT 1 / 0")
        assert other.execute("SELECT sum(sum) FROM account").fetchone() == (400,)
        connection.execute("BEGIN")
        connection.execute("CREATE TABLE fresh (id int PRIMARY KEY)")
        connection.execute("INSERT INTO fresh VALUES (1)")
        assert connection.execute("SELECT * FROM fresh").fetchall() == [(1,)]
        with pytest.raises(psycopg.errors.UndefinedTable):
            other.execute("SELECT * FROM fresh")
        connection.execute("ROLLBACK")
        with pytest.raises(psycopg.errors.UndefinedTable):
            connection.execute("SELECT * FROM fresh")
    connection.execute("DROP TABLE account")


def test_sessions_that_must_not_write(connection):
    connection.execute("CREATE TABLE calm (id int PRIMARY KEY)")
    connection.execute("SET default_transaction_read_only = on")
    for statement in ("INSERT INTO calm VALUES (1)", "DELETE FROM calm", "DROP TABLE calm", "CREATE TABLE c (id int)"):
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            connection.execute(statement)
    assert connection.execute("SELECT count(*) FROM calm").fetchone() == (0,)
    connection.execute("BEGIN READ WRITE")
    connection.execute("INSERT INTO calm VALUES (2)")
    connection.execute("COMMIT")
    connection.execute("RESET default_transaction_read_only")
    connection.execute("INSERT INTO calm VALUES (1)")
    assert connection.execute("SELECT id FROM calm ORDER BY id").fetchall() == [(1,), (2,)]
    connection.execute("DROP TABLE calm")
    assert connection.execute("START TRANSACTION").statusmessage == "START TRANSACTION"
    connection.execute("ROLLBACK")


def test_nothing_is_lost_of_concurrent_updates(cluster, connection):
    connection.execute("CREATE TABLE counter (id int PRIMARY KEY, n int)")
    connection.execute("INSERT INTO counter VALUES (1, 0)")
    failures = []

    def count():
        with connect(cluster) as own:
            done = 0
            while done < 20:
                try:
                    own.execute("UPDATE counter SET n = n + 1 WHERE id = 1")
                    done += 1
                except psycopg.errors.SerializationFailure:
                    pass  # Somebody else was first: nothing was done.
                except psycopg.Error as error:
                    failures.append(error)
                    return

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert connection.execute("SELECT n FROM counter").fetchone() == (160,)
    connection.execute("DROP TABLE counter")


def test_a_row_is_a_hash_of_redis():
    with Cluster() as cluster, connect(cluster) as connection:
        redis = cluster.client()
        connection.execute("CREATE TABLE users (id bigint PRIMARY KEY, name text NOT NULL, age int)")
        connection.execute("INSERT INTO users VALUES (42, 'Ada', 36)")
        assert redis.hgetall("users:42") == {b"id": b"42", b"name": b"Ada", b"age": b"36"}
        assert redis.hset("users:42", "age", 37) == 0
        assert redis.hincrby("users:42", "age", 5) == 42
        assert connection.execute("SELECT * FROM users").fetchall() == [(42, "Ada", 42)]
        for command in (
            ("HSET", "users:42", "age", "abc"),
            ("HDEL", "users:42", "name"),
            ("HSET", "users:43", "age", "1"),
            ("HGETALL", "users:042"),
            ("GET", "users:42"),
            ("SET", "users:42", "x"),
        ):
            with pytest.raises(RedisError):
                redis.execute_command(*command)
        assert redis.hdel("users:42", "age") == 1
        assert redis.hset("users:43", mapping={"name": "Bob"}) == 1
        rows = connection.execute("SELECT * FROM users ORDER BY id").fetchall()
        assert rows == [(42, "Ada", None), (43, "Bob", None)]
        with connection.transaction():
            connection.execute("UPDATE users SET name = 'Eve' WHERE id = 43")
            assert redis.hget("users:43", "name") == b"Bob"
        assert redis.hget("users:43", "name") == b"Eve"
        assert redis.delete("users:43") == 1
        assert connection.execute("SELECT count(*) FROM users").fetchone() == (1,)
        assert redis.dbsize() == 0 and redis.exists("users:42") == 1 and redis.type("users:42") == b"hash"


def test_rows_survive_the_death_of_a_node():
    with Cluster() as cluster:
        with connect(cluster) as connection:
            connection.execute("CREATE TABLE kept (id serial PRIMARY KEY, v text NOT NULL DEFAULT 'new')")
            connection.execute("INSERT INTO kept (v) VALUES ('a'), ('b')")
            connection.execute("INSERT INTO kept DEFAULT VALUES")
        kill(cluster.pids()["storage-node-1"], signal.SIGKILL)
        wait_until(cluster.answers, "the node's return")
        with connect(cluster) as connection:
            rows = connection.execute("SELECT * FROM kept ORDER BY id").fetchall()
            assert rows == [(1, "a"), (2, "b"), (3, "new")]
            connection.execute("INSERT INTO kept (v) VALUES ('c')")
            assert connection.execute("SELECT count(DISTINCT id) FROM kept").fetchone() == (4,)
