"""Statements on one record in transactions: once a gateway knows them it sends the transaction's home the call of the
record's shard. They mean what they did before."""

import threading

import psycopg
import pytest

from conftest import Cluster, wait_until
from faults import ask_admin
from test_cancel import LONG, cancelled
from test_sql import connect

NODES = 3


@pytest.fixture(scope="module", params=[1, NODES], ids=["one node", "three nodes"])
def cluster(request):
    with Cluster("--nodes", str(request.param), "--shards", "4") as running:
        running.nodes = request.param
        wait_until(lambda: connect(running), "a connection")
        with connect(running) as connection:
            connection.execute("CREATE TABLE t (a int PRIMARY KEY, b int, at timestamptz)")
            connection.execute("CREATE TABLE notes (text text)")
            connection.execute("INSERT INTO t (a, b) SELECT g, 0 FROM generate_series(1, 100) g")
        yield running


def taught(cluster):
    """A connection whose gateway knows how these statements are called."""
    connection = connect(cluster, prepare_threshold=0)
    for _ in range(2 * cluster.nodes + 1):
        for a in range(80, 90):
            with connection.transaction():
                change(connection, a, 1)
                read(connection, a)
                insert(connection, a)
                stamp(connection, a)
        connection.execute("DELETE FROM t WHERE a > 100")
    return connection


@pytest.fixture
def connection(cluster):
    with taught(cluster) as connection:
        yield connection


@pytest.fixture
def other(cluster):
    with taught(cluster) as connection:
        yield connection


def change(connection, a, divisor):
    return connection.execute("UPDATE t SET b = b + 100 / %s WHERE a = %s", (divisor, a))


def read(connection, a):
    return connection.execute("SELECT b FROM t WHERE a = %s", (a,)).fetchone()


def insert(connection, a):
    return connection.execute("INSERT INTO t (a, b) VALUES (%s, 1)", (a + 1000,))


def stamp(connection, a):
    return connection.execute("UPDATE t SET at = now() WHERE a = %s RETURNING at", (a,)).fetchone()[0]


def metric(cluster, name):
    """The sum over all nodes."""
    total = 0
    for number in range(1, cluster.nodes + 1):
        page = ask_admin(f"{cluster.data}/run/n{number}.admin", "/metrics") or b""
        total += sum(float(line.split()[1]) for line in page.decode().splitlines() if line.startswith(name + " "))
    return total


def calls(cluster):
    """Statements that nodes have taken as calls of a record."""
    return metric(cluster, "orbit_statements_called_total")


def test_they_go_as_calls(cluster, connection):
    before = calls(cluster)
    with connection.transaction():
        assert change(connection, 1, 1).rowcount == 1
        assert read(connection, 1) == (100,)
        assert insert(connection, 100).statusmessage == "INSERT 0 1"
        assert change(connection, 7000, 1).rowcount == 0 and read(connection, 7000) is None
    assert read(connection, 1) == (100,) and read(connection, 1100) == (1,)
    # Where a shard's node does not know a statement the home executes it.
    assert calls(cluster) == before + 5 or cluster.nodes > 1 and calls(cluster) >= before + 3
    connection.execute("DELETE FROM t WHERE a = 1100")


def test_one_that_fails_fails_the_transaction(cluster, connection, other):
    for fail, error in (
        (lambda: change(connection, 2, 0), psycopg.errors.DivisionByZero),
        (lambda: insert(connection, -997), psycopg.errors.UniqueViolation),
    ):
        connection.execute("BEGIN")
        change(connection, 2, 1)
        before = calls(cluster)
        with pytest.raises(error):
            fail()
        assert calls(cluster) == before + 1
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            read(connection, 2)
        change(other, 2, 100)  # Nobody holds its lock.
        assert connection.execute("COMMIT").statusmessage == "ROLLBACK"
    assert read(connection, 2) == (2,)


def test_a_savepoint_outlives_one_that_fails(connection):
    with connection.transaction():
        change(connection, 3, 1)
        with pytest.raises(psycopg.errors.DivisionByZero), connection.transaction():
            change(connection, 3, 2)
            change(connection, 3, 0)
        assert read(connection, 3) == (100,)
        change(connection, 3, 4)
    assert read(connection, 3) == (125,)


def test_the_time_is_the_transactions(connection):
    with connection.transaction():
        first = stamp(connection, 4)
        assert stamp(connection, 5) == first == stamp(connection, 4)
        assert connection.execute("SELECT now()").fetchone() == (first,)
    with connection.transaction():
        assert stamp(connection, 4) > first


def test_one_that_waits_is_called_back(cluster, connection, other):
    statement = "UPDATE t SET b = 200 WHERE a = 6"
    for _ in range(2):
        with connection.transaction():
            connection.execute(statement)
    with other.transaction():
        change(other, 6, 1)
        connection.execute("BEGIN")
        change(connection, 7, 1)
        before = calls(cluster)
        cancelled(connection, statement)
        assert calls(cluster) == before + 1
        change(other, 7, 1)  # Nobody holds its lock.
        assert connection.execute("COMMIT").statusmessage == "ROLLBACK"
        connection.execute("SET statement_timeout = '200ms'")
        connection.execute("BEGIN")
        with pytest.raises(psycopg.errors.QueryCanceled, match="canceling statement due to statement timeout"):
            connection.execute(statement)
        connection.execute("ROLLBACK")
    assert read(connection, 6) == (300,) and read(connection, 7) == (100,)


def test_a_lock_timeout(connection, other):
    with other.transaction():
        change(other, 8, 1)
        connection.execute("SET lock_timeout = '20ms'")
        for _ in range(2):
            with pytest.raises(psycopg.errors.LockNotAvailable, match="canceling statement due to lock timeout"):
                with connection.transaction():
                    change(connection, 9, 1)
                    change(connection, 8, 1)
    assert read(connection, 9) == (0,)


def test_one_may_wait_for_longer_than_a_node_is_asked_once(cluster, connection, other):
    """The node says after 5 s that it is under way, and is asked again."""
    other.execute("SET statement_timeout = '6s'")
    other.execute("BEGIN")
    change(other, 10, 1)
    found = []

    def update():
        with connection.transaction():
            found.append(change(connection, 10, 2).statusmessage)
            found.append(read(connection, 10))

    thread = threading.Thread(target=update)
    thread.start()
    with pytest.raises(psycopg.errors.QueryCanceled):
        other.execute(LONG)
    other.execute("ROLLBACK")
    thread.join()
    assert found == ["UPDATE 1", (50,)]


def test_deadlocks_are_found(connection, other):
    other.execute("BEGIN")
    connection.execute("BEGIN")
    change(other, 11, 1)
    change(connection, 12, 1)
    errors = []

    def cross(session, a):
        try:
            change(session, a, 1)
        except psycopg.errors.DeadlockDetected as error:
            errors.append(error)
        session.execute("COMMIT")

    threads = [threading.Thread(target=cross, args=pair) for pair in ((other, 12), (connection, 11))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(errors) == 1


def test_what_the_transaction_has_defined_comes_first(cluster, connection):
    connection.execute("CREATE SCHEMA mine")
    connection.execute("SET search_path = mine, public")
    for _ in range(2 * cluster.nodes + 1):
        with connection.transaction():
            change(connection, 13, 1)
    known = read(connection, 13)
    connection.execute("BEGIN")
    connection.execute("CREATE TABLE mine.t (a int PRIMARY KEY, b int)")
    connection.execute("INSERT INTO mine.t VALUES (13, 5)")
    change(connection, 13, 50)
    assert read(connection, 13) == (7,)
    connection.execute("ROLLBACK")
    with connection.transaction():
        assert read(connection, 13) == known


def test_a_table_that_others_have_changed(connection, other):
    with connection.transaction():
        change(connection, 14, 1)
    other.execute("ALTER TABLE t ADD COLUMN c int DEFAULT 9")
    with connection.transaction():
        change(connection, 15, 1)
        assert read(connection, 15) == (100,)
    other.execute("ALTER TABLE t DROP COLUMN c")
    with connection.transaction():
        assert read(connection, 15) == (100,)


def test_levels_of_isolation(connection, other):
    for level, error in (("READ COMMITTED", None), ("REPEATABLE READ", psycopg.errors.SerializationFailure)):
        connection.execute(f"BEGIN ISOLATION LEVEL {level}")
        before = read(connection, 16)
        change(other, 16, 1)
        assert read(connection, 16) == (before if error else (before[0] + 100,))
        if error:
            with pytest.raises(error):
                change(connection, 16, 1)
        connection.execute("ROLLBACK")
    connection.execute("BEGIN READ ONLY")
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        change(connection, 16, 1)
    connection.execute("ROLLBACK")
    connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
    known = read(connection, 16)
    change(other, 16, 1)
    assert read(connection, 16) == known
    connection.execute("COMMIT")


LOCKING = [
    "SELECT * FROM held WHERE a = 1 FOR UPDATE",
    "SELECT b FROM held WHERE a = 1 AND b > 0 FOR NO KEY UPDATE",
    "SELECT * FROM held WHERE a IN (1, 2) FOR UPDATE",
    "SELECT * FROM held WHERE a = 1 FOR SHARE",
    "SELECT * FROM held FOR UPDATE",
    "SELECT * FROM held WHERE a < 2 FOR UPDATE",
    "SELECT * FROM held WHERE b = 10 FOR UPDATE",
    "SELECT * FROM held WHERE c = 'x' FOR UPDATE",
    "SELECT * FROM held ORDER BY a LIMIT 1 FOR UPDATE",
    "SELECT * FROM held h JOIN held o ON o.a = h.b / 10 WHERE h.a = 1 FOR UPDATE OF h",
    "SELECT * FROM (SELECT * FROM held WHERE a = 1) s FOR UPDATE",
    "WITH w AS (SELECT * FROM held WHERE a = 1 FOR UPDATE) SELECT * FROM w",
]


@pytest.mark.parametrize("is_prepared", [False, True], ids=["by text", "prepared"])
def test_a_row_that_a_query_locks_stays_as_it_is(connection, other, is_prepared):
    connection.execute("DROP TABLE IF EXISTS held")
    connection.execute("CREATE TABLE held (a int PRIMARY KEY, b int, c text)")
    connection.execute("CREATE INDEX ON held (b)")
    connection.execute("INSERT INTO held VALUES (1, 10, 'x'), (2, 20, 'y')")
    other.execute("SET lock_timeout = '20ms'")
    for statement in LOCKING:
        for _ in range(2):
            with connection.transaction(force_rollback=True):
                assert connection.execute(statement, prepare=is_prepared).fetchall(), statement
                for change in (
                    "UPDATE held SET c = c WHERE a = 1",
                    "DELETE FROM held WHERE a = 1",
                    "SELECT a FROM held WHERE a = 1 FOR UPDATE NOWAIT",
                ):
                    with pytest.raises(psycopg.errors.LockNotAvailable):
                        other.execute(change, prepare=is_prepared)
                        pytest.fail(f"{statement} let others {change}")
    assert other.execute("UPDATE held SET c = c WHERE a = 1").rowcount == 1


def test_a_query_locks_no_row_that_it_does_not_give(cluster, connection, other):
    connection.execute("DROP TABLE IF EXISTS held CASCADE")
    connection.execute("CREATE TABLE held (a int PRIMARY KEY, b int, c text)")
    connection.execute("CREATE VIEW holding AS SELECT a, b * 2 AS b FROM held WHERE c <> 'z'")
    connection.execute("INSERT INTO held VALUES (1, 10, 'x'), (2, 20, 'y'), (3, 30, 'y')")
    other.execute("SET lock_timeout = '20ms'")
    for statement in (
        "SELECT * FROM held WHERE a = 1 FOR UPDATE",
        "SELECT * FROM held WHERE c = 'x' FOR UPDATE",
        "SELECT * FROM (SELECT a FROM held) s WHERE a = 1 FOR UPDATE",
        "SELECT * FROM holding WHERE b = 20 FOR UPDATE",
        "SELECT * FROM holding WHERE a = 1 FOR SHARE",
        "SELECT * FROM (SELECT a, b FROM held FOR UPDATE) s WHERE b + 0 = 10",
    ):
        with connection.transaction(force_rollback=True):
            assert len(connection.execute(statement).fetchall()) == 1, statement
            free = other.execute("SELECT a FROM held FOR UPDATE SKIP LOCKED").fetchall()
            assert sorted(free) == [(2,), (3,)], statement
    # A row that does not meet the condition any more once its lock is there does not come.
    with connection.transaction():
        connection.execute("UPDATE held SET b = 11 WHERE a = 1")
        asked = threading.Thread(target=lambda: found.append(other.execute(
            "SELECT * FROM (SELECT a, b FROM held FOR UPDATE) s WHERE b = 10 OR b = 20").fetchall()))
        found = []
        other.execute("SET lock_timeout = 0")
        asked.start()
        wait_until(lambda: metric(cluster, "orbit_lock_waiters") == 1, "a lock that is waited for")
    asked.join()
    assert found == [[(2, 20)]]


def test_read_only_transactions_change_nothing(connection):
    connection.execute("CREATE TABLE kept (id int PRIMARY KEY, v int)")
    connection.execute("INSERT INTO kept VALUES (1, 1)")
    connection.execute("CREATE SEQUENCE drawn")
    refused = {
        "INSERT INTO kept VALUES (2, 2)": "INSERT",
        "DELETE FROM kept": "DELETE",
        "SELECT * FROM kept WHERE id = 1 FOR UPDATE": "SELECT FOR UPDATE",
        "SELECT * FROM kept FOR KEY SHARE": "SELECT FOR KEY SHARE",
        "SELECT * FROM (SELECT * FROM kept FOR UPDATE) s": "SELECT",
        "WITH c AS (UPDATE kept SET v = 2 RETURNING id) SELECT * FROM c": "SELECT",
        "EXPLAIN ANALYZE DELETE FROM kept": "DELETE",
        "SELECT nextval('drawn')": "nextval()",
        "SELECT setval('drawn', 7)": "setval()",
        "TRUNCATE kept": "TRUNCATE TABLE",
        "CREATE TABLE IF NOT EXISTS kept (id int)": "CREATE TABLE",
        "COPY kept FROM STDIN": "COPY FROM",
    }
    for level in ("READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"):
        for statement, title in refused.items():
            connection.execute(f"BEGIN ISOLATION LEVEL {level} READ ONLY")
            with pytest.raises(psycopg.errors.ReadOnlySqlTransaction) as error:
                if statement.startswith("COPY"):
                    with connection.cursor().copy(statement):
                        pass
                else:
                    connection.execute(statement)
            assert str(error.value) == f"cannot execute {title} in a read-only transaction", statement
            connection.execute("ROLLBACK")
        connection.execute(f"BEGIN ISOLATION LEVEL {level} READ ONLY")
        assert connection.execute("EXPLAIN DELETE FROM kept").fetchall()
        assert connection.execute("SELECT v FROM kept").fetchall() == [(1,)]
        connection.execute("COMMIT")
    assert connection.execute("SELECT nextval('drawn')").fetchone() == (1,)


def test_rows_without_a_key(connection):
    insertion = "INSERT INTO notes VALUES (%s)"
    for number in range(3):
        with connection.transaction():
            connection.execute(insertion, (f"{number} a",))
            connection.execute(insertion, (f"{number} b",))
    connection.execute("BEGIN")
    connection.execute(insertion, ("lost",))
    connection.execute("ROLLBACK")
    rows = connection.execute("SELECT text FROM notes ORDER BY text").fetchall()
    assert [text for text, in rows] == ["0 a", "0 b", "1 a", "1 b", "2 a", "2 b"]
