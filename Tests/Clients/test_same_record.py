"""One record from both sides: what SQL writes Redis reads, and back, on four shards; what neither may do; and
transactions that both take part in."""

import signal
import threading

import psycopg
import pytest

from redis.exceptions import ResponseError, WatchError

from conftest import PATIENCE, Cluster, kill, wait_until
from test_sql import connect as sql

SHARDS = 4


@pytest.fixture(scope="module")
def cluster():
    with Cluster("--shards", str(SHARDS)) as running:
        yield running


@pytest.fixture
def table(cluster):
    """A name for a table, a connection of each side; the table is dropped in the end."""
    name = f"t{threading.get_ident() % 1000}_{table.count}"
    table.count += 1
    with sql(cluster) as connection, cluster.client(decode_responses=True) as client:
        yield name, connection, client
        connection.execute(f"DROP TABLE IF EXISTS {name}")


table.count = 0

TYPES = {
    "smallint": ("-7", "-7"),
    "integer": ("42", "42"),
    "bigint": ("9223372036854775807", "9223372036854775807"),
    "numeric(10,2)": ("12.5", "12.50"),
    "real": ("1.5", "1.5"),
    "double precision": ("-0.1", "-0.1"),
    "boolean": ("true", "t"),
    "text": ("naïve: ✓", "naïve: ✓"),
    "varchar(5)": ("abc", "abc"),
    "bytea": ("\\x0001ff", "\\x0001ff"),
    "uuid": ("A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
    "date": ("2024-02-29", "2024-02-29"),
    "time": ("12:34:56.5", "12:34:56.5"),
    "timestamp": ("2024-02-29 12:00:00", "2024-02-29 12:00:00"),
    "interval": ("1 day 2 hours", "1 day 02:00:00"),
    "jsonb": ('{"b": 1, "a": [2]}', '{"a": [2], "b": 1}'),
    "integer[]": ("{1,NULL,3}", "{1,NULL,3}"),
}


def test_values_of_every_type_read_the_same_on_both_sides(table):
    name, connection, client = table
    columns = ", ".join(f"c{i} {kind}" for i, kind in enumerate(TYPES))
    connection.execute(f"CREATE TABLE {name} (id bigint PRIMARY KEY, {columns})")
    shown = {f"c{i}": text for i, (_, text) in enumerate(TYPES.values())}
    marks = ", ".join(["%s"] * len(TYPES))
    connection.execute(f"INSERT INTO {name} VALUES (1, {marks})", [given for given, _ in TYPES.values()])
    assert client.hgetall(f"{name}:1") == {"id": "1", **shown}
    added = client.hset(f"{name}:2", mapping={f"c{i}": given for i, (given, _) in enumerate(TYPES.values())})
    assert added == len(TYPES)
    rest = ", ".join(f"c{i}::text" for i in range(len(TYPES)))
    rows = connection.execute(f"SELECT {rest} FROM {name} ORDER BY id").fetchall()
    assert rows[0] == rows[1]


def test_each_side_reads_what_the_other_wrote_at_once(table):
    name, connection, client = table
    connection.execute(f"CREATE TABLE {name} (id bigint PRIMARY KEY, name text, age int)")
    for number in range(40):  # On all shards.
        connection.execute(f"INSERT INTO {name} VALUES (%s, %s, NULL)", (number, f"n{number}"))
        assert client.hgetall(f"{name}:{number}") == {"id": str(number), "name": f"n{number}"}
        assert client.hset(f"{name}:{number}", mapping={"age": number, "name": "m"}) == 1
        found = connection.execute(f"SELECT * FROM {name} WHERE id = %s", (number,)).fetchone()
        assert found == (number, "m", number)
        assert client.hincrby(f"{name}:{number}", "age", 2) == number + 2
        connection.execute(f"UPDATE {name} SET age = age + 1 WHERE id = %s", (number,))
        assert client.hmget(f"{name}:{number}", "age", "name", "nothing") == [str(number + 3), "m", None]
        assert client.hdel(f"{name}:{number}", "name") == 1
        assert connection.execute(f"SELECT name IS NULL FROM {name} WHERE id = %s", (number,)).fetchone() == (True,)
    assert client.exists(*[f"{name}:{number}" for number in range(50)]) == 40
    assert client.type(f"{name}:3") == "hash"
    assert client.delete(*[f"{name}:{number}" for number in range(20)]) == 20
    connection.execute(f"DELETE FROM {name} WHERE id >= 30")
    assert client.exists(*[f"{name}:{number}" for number in range(40)]) == 10
    pages, keys, cursor = 0, [], None
    while cursor != 0:
        cursor, page = client.scan(cursor or 0, match=f"{name}:*", count=3)
        keys += page
        pages += 1
    assert sorted(keys) == sorted(f"{name}:{number}" for number in range(20, 30)) and pages > 1
    assert sorted(client.keys(f"{name}:2?")) == sorted(keys)
    assert client.keys(f"{name[:-1]}*") == [] and client.dbsize() == 0


def test_what_does_not_fit_is_refused_and_changes_nothing(table):
    name, connection, client = table
    connection.execute(f"CREATE TABLE {name} (id bigint PRIMARY KEY, name text NOT NULL, age int)")
    connection.execute(f"INSERT INTO {name} VALUES (1, 'a', 5)")
    for refused in [
        lambda: client.hset(f"{name}:1", "age", "abc"),
        lambda: client.hset(f"{name}:1", "nothing", "1"),
        lambda: client.hset(f"{name}:1", "id", "2"),
        lambda: client.hset(f"{name}:2", "age", "1"),  # Without a name.
        lambda: client.hdel(f"{name}:1", "name"),
        lambda: client.hset(f"{name}:01", "name", "x"),  # Not as the key is shown.
        lambda: client.hset(f"{name}:x", "name", "x"),
        lambda: client.get(f"{name}:1"),
        lambda: client.set(f"{name}:1", "x"),
        lambda: client.rename(f"{name}:1", "other"),
        lambda: client.copy(f"{name}:1", f"{name}:3"),
    ]:
        with pytest.raises(ResponseError):
            refused()
    assert connection.execute(f"SELECT * FROM {name}").fetchall() == [(1, "a", 5)]


def test_what_is_not_committed_is_not_seen(table):
    name, connection, client = table
    connection.execute(f"CREATE TABLE {name} (id bigint PRIMARY KEY, age int)")
    connection.execute("BEGIN")
    connection.execute(f"INSERT INTO {name} VALUES (1, 1), (2, 2), (3, 3), (4, 4)")
    assert client.exists(*[f"{name}:{number}" for number in range(1, 5)]) == 0
    connection.execute("ROLLBACK")
    assert client.exists(f"{name}:1") == 0
    connection.execute("BEGIN")
    connection.execute(f"INSERT INTO {name} VALUES (1, 1), (2, 2), (3, 3), (4, 4)")
    connection.execute("COMMIT")
    assert client.exists(*[f"{name}:{number}" for number in range(1, 5)]) == 4


def test_a_watch_and_a_transaction_over_rows_and_keys(table):
    name, connection, client = table
    connection.execute(f"CREATE TABLE {name} (id bigint PRIMARY KEY, age int)")
    connection.execute(f"INSERT INTO {name} VALUES (1, 1), (2, 2)")
    with client.pipeline() as pipeline:
        pipeline.watch(f"{name}:1")
        connection.execute(f"UPDATE {name} SET age = 10 WHERE id = 1")
        pipeline.multi()
        pipeline.hset(f"{name}:1", "age", 11)
        with pytest.raises(WatchError):
            pipeline.execute()
    with client.pipeline() as pipeline:
        pipeline.watch(f"{name}:1", f"{name}:2")
        pipeline.multi()
        pipeline.hset(f"{name}:1", "age", 11)
        pipeline.hincrby(f"{name}:2", "age", 1)
        pipeline.set("native", "1")
        assert pipeline.execute() == [0, 3, True]
    assert connection.execute(f"SELECT age FROM {name} ORDER BY id").fetchall() == [(11,), (3,)]
    assert client.delete("native") == 1


def test_a_row_that_expires_is_gone_on_both_sides(table):
    name, connection, client = table
    connection.execute(f"CREATE TABLE {name} (id bigint PRIMARY KEY, age int)")
    connection.execute(f"INSERT INTO {name} VALUES (1, 1), (2, 2)")
    assert client.expire(f"{name}:1", 1000) == 1 and 990 < client.ttl(f"{name}:1") <= 1000
    connection.execute(f"UPDATE {name} SET age = 3 WHERE id = 1")
    assert client.ttl(f"{name}:1") > 0
    assert client.pexpire(f"{name}:1", 1) == 1
    wait_until(lambda: client.exists(f"{name}:1") == 0, "the row's end")
    assert connection.execute(f"SELECT id FROM {name}").fetchall() == [(2,)]
    assert client.persist(f"{name}:2") == 0


def test_a_row_of_a_table_with_indexes_expires_with_its_entries(cluster, table):
    name, connection, client = table
    connection.execute(f"CREATE TABLE {name} (id bigint PRIMARY KEY, mail text UNIQUE, age int)")
    connection.execute(f"CREATE INDEX ON {name} (age)")
    connection.execute(f"INSERT INTO {name} SELECT n, 'm' || n, n FROM generate_series(1, 8) n")
    assert client.expire(f"{name}:1", 1000) == 1 and 990 < client.ttl(f"{name}:1") <= 1000
    assert client.expire(f"{name}:1", 2000, gt=True) == 1 and client.expire(f"{name}:1", 1000, gt=True) == 0
    assert client.expire(f"{name}:77", 1000) == 0
    connection.execute(f"UPDATE {name} SET age = 100, mail = 'new' WHERE id = 1")
    assert 1900 < client.ttl(f"{name}:1") <= 2000
    with pytest.raises(psycopg.errors.UniqueViolation):
        connection.execute(f"INSERT INTO {name} VALUES (9, 'new', 9)")
    connection.execute(f"INSERT INTO {name} VALUES (10, 'm1', 1)")
    assert client.persist(f"{name}:1") == 1 and client.ttl(f"{name}:1") == -1 and client.persist(f"{name}:1") == 0
    assert connection.execute(f"SELECT id FROM {name} WHERE mail = 'new'").fetchall() == [(1,)]
    # One whose time is over is gone at once; its values are free, and a row in its place is found again.
    for number in (1, 2, 3, 4):
        assert client.expire(f"{name}:{number}", -1) == 1
        assert client.exists(f"{name}:{number}") == 0
    for number in (5, 6):
        assert client.pexpire(f"{name}:{number}", 1) == 1
        wait_until(lambda: client.exists(f"{name}:{number}") == 0, "the row's end")
        assert connection.execute(f"SELECT * FROM {name} WHERE mail = 'm{number}'").fetchall() == []
        assert connection.execute(f"SELECT * FROM {name} WHERE age = {number}").fetchall() == []
        connection.execute(f"INSERT INTO {name} VALUES ({number}, 'm{number}', {number})")
        assert client.ttl(f"{name}:{number}") == -1
        assert connection.execute(f"SELECT id FROM {name} WHERE mail = 'm{number}'").fetchall() == [(number,)]
        assert connection.execute(f"SELECT id FROM {name} WHERE age = {number}").fetchall() == [(number,)]
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute(f"INSERT INTO {name} VALUES (50, 'm{number}', 50)")
    connection.execute(f"INSERT INTO {name} VALUES (12, 'new', 12), (13, 'm2', 13)")
    assert client.expire(f"{name}:12", 1000) == 1
    with client.pipeline() as pipeline:
        pipeline.persist(f"{name}:12")
        pipeline.hset(f"{name}:12", "age", 14)
        pipeline.pexpire(f"{name}:13", 100_000)
        assert pipeline.execute() == [1, 0, 1]
    connection.execute("BEGIN")
    token = connection.execute("SHOW orbit.transaction_id").fetchone()[0]
    with cluster.client(decode_responses=True, single_connection_client=True) as member:
        assert member.execute_command("CLIENT TRANSACTION", "JOIN", token) in ("OK", b"OK")
        assert member.expire(f"{name}:12", -1) == 1
        assert connection.execute(f"SELECT id FROM {name} WHERE mail = 'new'").fetchall() == []
        connection.execute("ROLLBACK")
    rows = connection.execute(f"SELECT id, mail, age FROM {name} ORDER BY id").fetchall()
    assert rows == [
        (5, "m5", 5), (6, "m6", 6), (7, "m7", 7), (8, "m8", 8), (10, "m1", 1), (12, "new", 14), (13, "m2", 13)
    ]
    assert 90 < client.ttl(f"{name}:13") <= 100


def test_a_column_that_was_added_with_a_default(table):
    name, connection, client = table
    connection.execute(f"CREATE TABLE {name} (id bigint PRIMARY KEY, a text)")
    connection.execute(f"INSERT INTO {name} SELECT n, 'a' || n FROM generate_series(1, 8) n")
    connection.execute(f"ALTER TABLE {name} ADD COLUMN b int DEFAULT 7")
    for number in range(1, 9):  # On all shards: records from before the change do not have the column.
        key = f"{name}:{number}"
        assert client.hgetall(key) == {"id": str(number), "a": f"a{number}", "b": "7"}
        assert client.hget(key, "b") == "7" and client.hlen(key) == 3 and client.hexists(key, "b") == 1
    assert client.hmget(f"{name}:1", "a", "b", "c") == ["a1", "7", None]
    assert client.hdel(f"{name}:1", "b") == 1 and client.hdel(f"{name}:1", "b") == 0
    assert client.hgetall(f"{name}:1") == {"id": "1", "a": "a1"} and client.hget(f"{name}:1", "b") is None
    assert client.hdel(f"{name}:2", "a") == 1
    assert client.hgetall(f"{name}:2") == {"id": "2", "b": "7"}
    assert client.hincrby(f"{name}:3", "b", 3) == 10
    assert client.hset(f"{name}:4", "a", "new") == 0
    assert client.hset(f"{name}:9", "a", "fresh") == 1  # The default is that of statements, too.
    connection.execute(f"UPDATE {name} SET b = NULL WHERE id = 5")
    assert client.hgetall(f"{name}:5") == {"id": "5", "a": "a5"}
    assert client.hset(f"{name}:5", "b", "1") == 1
    rows = connection.execute(f"SELECT id, a, b FROM {name} ORDER BY id").fetchall()
    assert rows == [
        (1, "a1", None), (2, None, 7), (3, "a3", 10), (4, "new", 7), (5, "a5", 1), (6, "a6", 7), (7, "a7", 7),
        (8, "a8", 7), (9, "fresh", 7),
    ]
    connection.execute(f"ALTER TABLE {name} ALTER COLUMN b SET DEFAULT 99")
    assert client.hget(f"{name}:6", "b") == "7"  # What rows had when the column came, they keep.
    connection.execute(f"ALTER TABLE {name} DROP COLUMN b")
    assert client.hgetall(f"{name}:6") == {"id": "6", "a": "a6"}


def test_a_table_does_not_hide_keys_unless_it_is_said(table):
    name, connection, client = table
    client.set(f"{name}:1", "native")
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match=f'begin with "{name}:"'):
        connection.execute(f"CREATE TABLE {name} (id bigint PRIMARY KEY)")
    with pytest.raises(psycopg.errors.FeatureNotSupported):
        connection.execute(f"CREATE TABLE {name} (id bigint PRIMARY KEY) WITH (resp_keys = 'import')")
    connection.execute(f"CREATE TABLE {name} (id bigint PRIMARY KEY) WITH (resp_keys = 'hide')")
    assert client.hgetall(f"{name}:1") == {} and client.exists(f"{name}:1") == 0
    connection.execute(f"DROP TABLE {name}")
    assert client.get(f"{name}:1") == "native" and client.delete(f"{name}:1") == 1


def test_keys_name_no_records_where_that_is_off(table):
    name, connection, client = table
    off, on = "ALTER DATABASE orbit SET resp.records = off", "ALTER DATABASE orbit SET resp.records TO on"
    settings = "SELECT setconfig FROM pg_db_role_setting JOIN pg_database d ON d.oid = setdatabase AND datname='orbit'"
    connection.execute(f"CREATE TABLE {name} (id bigint PRIMARY KEY, n int)")
    connection.execute(f"INSERT INTO {name} SELECT i, i FROM generate_series(1, 20) i")
    assert client.hget(f"{name}:7", "n") == "7"
    assert connection.execute(off).statusmessage == "ALTER DATABASE"
    try:
        assert connection.execute(settings).fetchall() == [(["resp.records=off"],)]
        # Neither side sees what the other has, on any shard.
        for number in range(1, 21):
            assert client.exists(f"{name}:{number}") == 0
            assert client.hset(f"{name}:{number}", "word", "key") == 1
        assert client.hgetall(f"{name}:7") == {"word": "key"} and client.type(f"{name}:8") == "hash"
        assert client.set(f"{name}:text", "free") is True
        assert sorted(client.scan_iter(f"{name}:*")) == sorted([f"{name}:{n}" for n in range(1, 21)] + [f"{name}:text"])
        with client.pipeline() as pipeline:
            pipeline.watch(f"{name}:1")
            pipeline.multi()
            pipeline.delete(f"{name}:1", f"{name}:2")
            assert pipeline.execute() == [2]
        assert connection.execute(f"SELECT count(*), sum(n) FROM {name}").fetchone() == (20, 210)
        keys = f"SELECT count(*) FROM redis.hashes WHERE starts_with(key, '{name}:')"
        assert connection.execute(keys).fetchone() == (18,)
        connection.execute(f"UPDATE redis.hashes SET value = 'new' WHERE key = '{name}:3'")
        assert client.hgetall(f"{name}:3") == {"word": "new"}
        # A table may be made beside keys of its name; they would be hidden when names count again.
        connection.execute(f"DROP TABLE {name}")
        connection.execute(f"CREATE TABLE {name} (id bigint PRIMARY KEY, n int)")
        connection.execute(f"INSERT INTO {name} VALUES (5, 50)")
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match=f'begin with "{name}:"'):
            connection.execute(on)
        assert client.hget(f"{name}:5", "word") == "key"
        for key in client.scan_iter(f"{name}:*"):
            client.delete(key)
        # Undone with its transaction.
        with connection.transaction(force_rollback=True):
            connection.execute("ALTER DATABASE orbit RESET resp.records")
        assert client.hgetall(f"{name}:5") == {}
    finally:
        for key in client.scan_iter(f"{name}:*"):
            client.delete(key)
        connection.execute(on)
    assert connection.execute(settings).fetchall() == []
    assert client.hgetall(f"{name}:5") == {"id": "5", "n": "50"}
    for statement, error in (
        ("ALTER DATABASE nobody SET resp.records = off", psycopg.errors.InvalidCatalogName),
        ("ALTER DATABASE orbit SET work_mem = 1", psycopg.errors.FeatureNotSupported),
        ("ALTER DATABASE orbit SET resp.records = maybe", psycopg.errors.InvalidParameterValue),
        ("ALTER DATABASE orbit RENAME TO comet", psycopg.errors.FeatureNotSupported),
    ):
        with pytest.raises(error):
            connection.execute(statement)


def test_the_names_of_records_change_only_between_transactions(cluster, table):
    name, connection, client = table
    connection.execute(f"CREATE TABLE {name} (id bigint PRIMARY KEY, n int)")
    connection.execute(f"INSERT INTO {name} VALUES (1, 1)")
    with sql(cluster) as other:
        other.execute("BEGIN")
        other.execute(f"UPDATE {name} SET n = 2 WHERE id = 1")
        connection.execute("SET lock_timeout = '100ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            connection.execute("ALTER DATABASE orbit SET resp.records = off")
        assert client.hget(f"{name}:1", "id") == "1"
        other.execute("COMMIT")
    connection.execute("SET lock_timeout = 0")
    try:
        connection.execute("ALTER DATABASE orbit SET resp.records = off")
        assert client.hget(f"{name}:1", "n") is None
    finally:
        connection.execute("ALTER DATABASE orbit SET resp.records = on")
    assert client.hget(f"{name}:1", "n") == "2"


def test_no_key_is_written_that_a_new_table_hides(cluster, table):
    name, connection, client = table
    errors, stop = [], threading.Event()

    def write(number):
        with cluster.client(decode_responses=True) as own:
            while not stop.is_set():
                try:
                    own.hset(f"{name}:{number}", mapping={"age": 1})
                    own.delete(f"{name}:{number}")
                except ResponseError as error:
                    # A slow machine may need longer to make the table than the gateway waits.
                    if "try again" not in str(error).lower() and "TRYAGAIN" not in str(error):
                        errors.append(str(error))

    writers = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for writer in writers:
        writer.start()
    made = 0
    try:
        for _ in range(20):
            try:
                connection.execute(f"CREATE TABLE {name} (id bigint PRIMARY KEY, age int)")
            except (psycopg.errors.ObjectNotInPrerequisiteState, psycopg.OperationalError):
                continue
            made += 1
            connection.execute(f"DROP TABLE {name}")
    finally:
        stop.set()
        for writer in writers:
            writer.join(PATIENCE)
    assert not errors
    assert client.keys(f"{name}:*") == [], f"hidden keys; {made} tables were made"


def test_a_transaction_that_both_take_part_in(cluster, table):
    name, connection, client = table
    connection.execute(f"CREATE TABLE {name} (id bigint PRIMARY KEY, age int)")
    for end, reader in [("COMMIT", [(1, 5), (2, 2)]), ("ROLLBACK", [(1, 5), (2, 2)])]:
        connection.execute("BEGIN")
        connection.execute(f"INSERT INTO {name} VALUES (%s, 1)", (1 if end == "COMMIT" else 3,))
        token = connection.execute("SHOW orbit.transaction_id").fetchone()[0]
        with cluster.client(decode_responses=True, single_connection_client=True) as member:
            assert member.execute_command("CLIENT TRANSACTION", "JOIN", token) in ("OK", b"OK")
            key = f"{name}:1" if end == "COMMIT" else f"{name}:3"
            assert member.hincrby(key, "age", 4) == 5
            member.hset(f"{name}:{2 if end == 'COMMIT' else 4}", "age", 2)
            member.set("in-both", end)
            assert client.exists("in-both", key) == (0 if end == "COMMIT" else 1)
            assert connection.execute(f"SELECT age FROM {name} WHERE id = %s", (key.split(":")[1],)).fetchone() == (5,)
            connection.execute(end)
            with pytest.raises(ResponseError, match="over"):
                member.get("in-both")
        assert connection.execute(f"SELECT * FROM {name} ORDER BY id").fetchall() == reader
    assert client.get("in-both") == "COMMIT" and client.delete("in-both") == 1


def test_sql_joins_a_transaction_of_redis(cluster, table):
    name, connection, client = table
    connection.execute(f"CREATE TABLE {name} (id bigint PRIMARY KEY, age int CHECK (age < 100))")
    connection.execute(f"INSERT INTO {name} VALUES (1, 1), (2, 2)")
    with cluster.client(decode_responses=True, single_connection_client=True) as member:
        member.execute_command("CLIENT TRANSACTION", "BEGIN", "ISOLATION", "READ-COMMITTED")
        member.set("begun-by", "redis")
        token = member.execute_command("CLIENT TRANSACTION", "ID")
        connection.execute(f"SET orbit.transaction_id = '{token}'")
        connection.execute(f"UPDATE {name} SET age = 50 WHERE id = 1")
        now = connection.execute("SELECT now()").fetchone()
        assert connection.execute("SELECT now()").fetchone() == now
        # The statement changes the first row before it fails at the second: neither stays.
        with pytest.raises(psycopg.errors.CheckViolation):
            connection.execute(f"UPDATE {name} SET age = age * 49 + 2")
        assert member.hget(f"{name}:1", "age") == "50" and member.hget(f"{name}:2", "age") == "2"
        assert member.execute_command("CLIENT TRANSACTION", "COMMIT") in ("OK", b"OK")
    with pytest.raises(psycopg.Error, match="committed by another connection"):
        connection.execute("ROLLBACK")
    assert connection.execute(f"SELECT * FROM {name} ORDER BY id").fetchall() == [(1, 50), (2, 2)]
    assert client.get("begun-by") == "redis" and client.delete("begun-by") == 1


def test_constraints_hold_for_both(table):
    name, connection, client = table
    connection.execute(
        f"""CREATE TABLE {name} (id bigint PRIMARY KEY, age int CHECK (age < 100), name text NOT NULL DEFAULT 'new',
            number serial, mail text UNIQUE)"""
    )
    for number in range(8):  # On all shards.
        assert client.hset(f"{name}:{number}", mapping={"age": number, "mail": f"m{number}"}) == 2
    rows = connection.execute(f"SELECT id, age, name, mail FROM {name} ORDER BY id").fetchall()
    assert rows == [(number, number, "new", f"m{number}") for number in range(8)]
    assert len({row[0] for row in connection.execute(f"SELECT number FROM {name}").fetchall()}) == 8
    for refused, why in [
        (lambda: client.hset(f"{name}:1", "age", 100), "check"),
        (lambda: client.hincrby(f"{name}:1", "age", 99), "check"),
        (lambda: client.hset(f"{name}:9", "age", 100), "check"),
        (lambda: client.hdel(f"{name}:1", "name"), "not-null"),
        (lambda: client.hset(f"{name}:1", "mail", "m2"), "unique"),
        (lambda: client.hset(f"{name}:1", "age", "abc"), "invalid input syntax"),
    ]:
        with pytest.raises(ResponseError, match=why):
            refused()
    assert client.hincrby(f"{name}:1", "age", 50) == 51
    assert client.hset(f"{name}:1", mapping={"mail": "other", "age": 3}) == 0
    assert client.hsetnx(f"{name}:1", "age", 4) == 0
    assert connection.execute(f"SELECT id FROM {name} WHERE mail = 'other'").fetchall() == [(1,)]
    assert connection.execute(f"SELECT id FROM {name} WHERE mail = 'm1'").fetchall() == []
    assert client.hdel(f"{name}:1", "mail", "age", "nothing") == 2
    client.set("native", "x")
    assert client.delete(f"{name}:2", "native", f"{name}:3", f"{name}:77") == 3
    assert client.hset(f"{name}:4", "mail", "m2") == 0  # Free again.
    with client.pipeline() as pipeline:
        pipeline.hset(f"{name}:5", "age", 50)
        pipeline.set("native", "y")
        pipeline.hset(f"{name}:5", "age", 500)
        pipeline.hincrby(f"{name}:5", "age", 1)
        pipeline.delete(f"{name}:6", "native")
        answers = pipeline.execute(raise_on_error=False)
    assert answers[:2] == [0, True] and isinstance(answers[2], ResponseError) and answers[3:] == [51, 2]
    with client.pipeline() as pipeline:
        pipeline.watch(f"{name}:5")
        connection.execute(f"UPDATE {name} SET age = 52 WHERE id = 5")
        pipeline.multi()
        pipeline.hincrby(f"{name}:5", "age", 1)
        with pytest.raises(WatchError):
            pipeline.execute()
    assert connection.execute(f"SELECT id, age FROM {name} ORDER BY id").fetchall() == [
        (0, 0), (1, None), (4, 4), (5, 52), (7, 7)
    ]


def test_counters_of_both_sides_add_up(cluster, table):
    name, connection, client = table
    connection.execute(f"CREATE TABLE {name} (id bigint PRIMARY KEY, n int NOT NULL CHECK (n >= 0))")
    connection.execute(f"INSERT INTO {name} VALUES (1, 0)")
    failures = []

    def count(side):
        try:
            with sql(cluster) as own, cluster.client() as other:
                for _ in range(15):
                    if side % 2:
                        own.execute(f"UPDATE {name} SET n = n + 1 WHERE id = 1")
                    else:
                        other.hincrby(f"{name}:1", "n", 1)
        except (psycopg.Error, ResponseError) as error:
            failures.append(error)

    threads = [threading.Thread(target=count, args=(side,)) for side in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert not failures
    assert client.hget(f"{name}:1", "n") == "60"


def test_rows_and_keys_survive_crashes_on_both_sides():
    with Cluster("--nodes", "3", "--shards", str(SHARDS)) as cluster:
        with sql(cluster) as connection, cluster.client() as client:
            connection.execute("CREATE TABLE kept (id bigint PRIMARY KEY, v text)")
            connection.execute("INSERT INTO kept SELECT n, 'sql' FROM generate_series(0, 9) n")
            for number in range(10, 20):
                assert client.hset(f"kept:{number}", "v", "redis") == 1
            connection.execute("DELETE FROM kept WHERE id = 3")
            assert client.delete("kept:13") == 1
            client.set("native", "1")
        expected = [(n, "sql" if n < 10 else "redis") for n in range(20) if n not in (3, 13)]
        for victim in ("storage-node-1", "resp-gw-1"):
            before = cluster.pids()[victim]
            kill(before, signal.SIGKILL)
            wait_until(lambda: cluster.pids().get(victim) not in (None, before), f"the return of {victim}")
            cluster.wait_ready()
            with sql(cluster) as connection, cluster.client(decode_responses=True) as client:
                assert connection.execute("SELECT * FROM kept ORDER BY id").fetchall() == expected
                for number, value in expected:
                    assert client.hgetall(f"kept:{number}") == {"id": str(number), "v": value}
                assert client.exists("kept:3", "kept:13", "native") == 1
