"""What PostgreSQL's levels promise, through psycopg: the anomalies of Hermitage on rows of one shard and of several,
and sums that concurrent transactions must not break."""

import pathlib
import random
import threading

import psycopg
import pytest

from conftest import PATIENCE, Cluster, wait_until
from faults import ask_admin
from test_sql import connect

RC, RR, SERIALIZABLE = "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"
LEVELS = [RC, RR, SERIALIZABLE]
# What a transaction that must give way is told.
GIVEN_WAY = (
    psycopg.errors.SerializationFailure,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.InFailedSqlTransaction,
)


@pytest.fixture(scope="module", params=[1, 4], ids=["one shard", "four shards"])
def cluster(request):
    with Cluster("--shards", str(request.param)) as running:
        yield running


class Later:
    """A statement on its way, in a thread of its own."""

    def __init__(self, body):
        self.error = None

        def run():
            try:
                body()
            except psycopg.Error as error:
                self.error = error

        self.thread = threading.Thread(target=run)
        self.thread.start()

    def result(self):
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive(), "it is not answered"
        if self.error:
            raise self.error


class Transaction:
    def __init__(self, cluster, level):
        self.connection = connect(cluster)
        self.run(f"BEGIN ISOLATION LEVEL {level}")

    def run(self, statement):
        cursor = self.connection.execute(statement)
        return cursor.fetchall() if cursor.description else None

    def get(self, key):
        rows = self.run(f"SELECT value FROM test WHERE id = {key}")
        return rows[0][0] if rows else None

    def all(self, condition="true"):
        return [tuple(row) for row in self.run(f"SELECT id, value FROM test WHERE {condition} ORDER BY id")]

    def set(self, key, value):
        self.run(f"UPDATE test SET value = {value} WHERE id = {key}")

    def commit(self):
        self.run("COMMIT")

    def rollback(self):
        self.run("ROLLBACK")

    def later(self, statement):
        return Later(lambda: self.run(statement))


class Rows:
    """A table with the rows (1, 10) and (2, 20), and what makes transactions."""

    def __init__(self, cluster):
        self.cluster, self.made = cluster, []
        self.plain = connect(cluster)
        self.plain.execute("CREATE TABLE test (id int PRIMARY KEY, value int)")
        self.plain.execute("INSERT INTO test VALUES (1, 10), (2, 20)")

    def begin(self, level, count=2):
        fresh = [Transaction(self.cluster, level) for _ in range(count)]
        self.made += fresh
        return fresh

    def all(self):
        return self.plain.execute("SELECT id, value FROM test ORDER BY id").fetchall()

    def waiting(self):
        def look():
            page = ask_admin(pathlib.Path(self.cluster.data, "run", "n1.admin"), "/metrics") or b""
            found = [line.split()[1] for line in page.decode().splitlines() if line.startswith("orbit_lock_waiters ")]
            return found and float(found[0]) >= 1

        wait_until(look, "a wait for a lock")

    def close(self):
        for transaction in self.made:
            transaction.connection.close()
        wait_until(self.drop, "the end of all transactions")
        self.plain.close()

    def drop(self):
        try:
            self.plain.execute("DROP TABLE test")
        except psycopg.errors.OperationalError:
            return False  # A transaction that was left open holds it still.
        return True


@pytest.fixture
def rows(cluster):
    made = Rows(cluster)
    yield made
    made.close()


def finish(level, one, two):
    """Both commit, but at most one where the level is serializable."""
    outcomes = []
    for commit in (one.commit, two.later("COMMIT").result):
        try:
            commit()
            outcomes.append(True)
        except GIVEN_WAY:
            outcomes.append(False)
    assert outcomes.count(True) == 2 if level != SERIALIZABLE else outcomes.count(True) <= 1, outcomes


def goes_first(level, steps, blocked):
    """The first transaction does its steps, and what has waited for it gives way. SERIALIZABLE may choose the other
    one: then this is false."""
    try:
        for step in steps:
            step()
    except GIVEN_WAY:
        assert level == SERIALIZABLE
        return False
    with pytest.raises(GIVEN_WAY):
        blocked.result()
    return True


@pytest.mark.parametrize("level", LEVELS)
def test_g0_writes_are_not_mixed(rows, level):
    one, two = rows.begin(level)
    one.set(1, 11)
    two.get(2)
    blocked = two.later("UPDATE test SET value = 12 WHERE id = 1")
    rows.waiting()
    if level != RC:
        if goes_first(level, [lambda: one.set(2, 21), one.commit], blocked):
            assert rows.all() == [(1, 11), (2, 21)]
        return
    one.set(2, 21)
    one.commit()
    blocked.result()
    assert rows.all() == [(1, 11), (2, 21)]
    two.set(2, 22)
    two.commit()
    assert rows.all() == [(1, 12), (2, 22)]


@pytest.mark.parametrize("level", LEVELS)
def test_g1a_what_is_undone_was_never_there(rows, level):
    one, two = rows.begin(level)
    one.set(1, 101)
    assert two.all() == [(1, 10), (2, 20)]
    one.rollback()
    assert two.all() == [(1, 10), (2, 20)]
    two.commit()


@pytest.mark.parametrize("level", LEVELS)
def test_g1b_nothing_in_between_is_seen(rows, level):
    one, two = rows.begin(level)
    one.set(1, 101)
    assert two.all() == [(1, 10), (2, 20)]
    one.set(1, 11)
    one.commit()
    assert two.all() == [(1, 11 if level == RC else 10), (2, 20)]
    two.commit()


@pytest.mark.parametrize("level", LEVELS)
def test_g1c_no_circle_of_information(rows, level):
    one, two = rows.begin(level)
    one.set(1, 11)
    two.set(2, 22)
    assert one.get(2) == 20
    assert two.get(1) == 10
    finish(level, one, two)


@pytest.mark.parametrize("level", LEVELS)
def test_otv_what_was_seen_does_not_vanish(rows, level):
    one, two, three = rows.begin(level, 3)
    one.set(1, 11)
    one.set(2, 19)
    two.run("SELECT 1 FROM test WHERE id = 3")
    blocked = two.later("UPDATE test SET value = 12 WHERE id = 1")
    rows.waiting()
    if level != RC:
        goes_first(level, [one.commit], blocked)
        return
    one.commit()
    blocked.result()
    assert three.get(1) == 11
    two.set(2, 18)
    assert three.get(2) == 19
    two.commit()
    assert [three.get(2), three.get(1)] == [18, 12]
    three.commit()


@pytest.mark.parametrize("level", LEVELS)
def test_pmp_rows_that_come_meanwhile(rows, level):
    one, two = rows.begin(level)
    assert one.all("value = 30") == []
    two.run("INSERT INTO test VALUES (3, 30)")
    two.commit()
    assert one.all("value % 3 = 0") == ([(3, 30)] if level == RC else [])
    one.commit()


@pytest.mark.parametrize("level", LEVELS)
def test_pmp_of_what_is_written(rows, level):
    one, two = rows.begin(level)
    two.get(1)
    one.run("UPDATE test SET value = value + 10")
    blocked = two.later("DELETE FROM test WHERE value = 20")
    rows.waiting()
    if level != RC:
        if goes_first(level, [one.commit], blocked):
            assert rows.all() == [(1, 20), (2, 30)]
        return
    # PostgreSQL looks at row 2 again, which has 30 now, and does not see row 1, which had 10.
    one.commit()
    blocked.result()
    two.commit()
    assert (2, 30) in rows.all()


@pytest.mark.parametrize("level", LEVELS)
def test_p4_lost_update(rows, level):
    one, two = rows.begin(level)
    assert [one.get(1), two.get(1)] == [10, 10]
    one.set(1, 11)
    blocked = two.later("UPDATE test SET value = 12 WHERE id = 1")
    rows.waiting()
    if level != RC:
        if goes_first(level, [one.commit], blocked):
            assert rows.all()[0] == (1, 11)
        return
    one.commit()
    blocked.result()
    two.commit()
    assert rows.all()[0] == (1, 12)


@pytest.mark.parametrize("level", LEVELS)
def test_g_single_read_skew(rows, level):
    one, two = rows.begin(level)
    assert one.get(1) == 10
    two.set(1, 12)
    two.set(2, 18)
    two.commit()
    assert one.get(2) == (18 if level == RC else 20)
    one.commit()


@pytest.mark.parametrize("level", [RR, SERIALIZABLE])
def test_g_single_of_what_is_written(rows, level):
    one, two = rows.begin(level)
    assert one.get(1) == 10
    two.run("UPDATE test SET value = value + 2")
    two.commit()
    with pytest.raises(GIVEN_WAY):
        one.run("DELETE FROM test WHERE value = 20")
    assert rows.all() == [(1, 12), (2, 22)]


@pytest.mark.parametrize("level", LEVELS)
def test_g2_item_write_skew(rows, level):
    one, two = rows.begin(level)
    for transaction in (one, two):
        assert transaction.all("id IN (1, 2)") == [(1, 10), (2, 20)]
    one.set(1, 11)
    two.set(2, 21)
    finish(level, one, two)


@pytest.mark.parametrize("level", LEVELS)
def test_g2_of_rows_that_are_not_there(rows, level):
    one, two = rows.begin(level)
    for transaction in (one, two):
        assert transaction.all("value % 3 = 0") == []
    outcomes = []
    for transaction, key, value in ((one, 3, 30), (two, 4, 42)):
        outcomes.append(transaction.later(f"INSERT INTO test VALUES ({key}, {value})"))
    failed = 0
    for outcome in outcomes:
        try:
            outcome.result()
        except GIVEN_WAY:
            failed += 1
    if failed:
        assert level == SERIALIZABLE
    else:
        finish(level, one, two)


# Sums under load


def attempts(cluster, level, body, times, failures, seed):
    """`body(connection, random)` in transactions, each again until it is committed."""
    chance = random.Random(seed)
    try:
        with connect(cluster) as connection:
            for _ in range(times):
                while True:
                    try:
                        connection.execute(f"BEGIN ISOLATION LEVEL {level}")
                        body(connection, chance)
                        connection.execute("COMMIT")
                        break
                    except (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected):
                        connection.execute("ROLLBACK")
    except psycopg.Error as error:
        failures.append(error)


def load(cluster, level, body, clients=4, times=8):
    failures = []
    threads = [
        threading.Thread(target=attempts, args=(cluster, level, body, times, failures, seed)) for seed in range(clients)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert not any(thread.is_alive() for thread in threads)
    assert not failures, failures
    return clients * times


@pytest.mark.parametrize("level", LEVELS)
def test_nothing_is_lost_of_increments(cluster, rows, level):
    def add(connection, chance):
        connection.execute(f"UPDATE test SET value = value + 1 WHERE id = {chance.choice([1, 2])}")

    done = load(cluster, level, add)
    assert sum(value for _, value in rows.all()) == 30 + done


@pytest.mark.parametrize("level", [RR, SERIALIZABLE])
def test_nothing_is_lost_of_what_is_read_first(cluster, rows, level):
    def add(connection, chance):
        key = chance.choice([1, 2])
        value = connection.execute(f"SELECT value FROM test WHERE id = {key}").fetchone()[0]
        connection.execute(f"UPDATE test SET value = {value + 1} WHERE id = {key}")

    done = load(cluster, level, add)
    assert sum(value for _, value in rows.all()) == 30 + done


def test_no_write_skew_of_sums(cluster, rows):
    """Money goes from one of the rows if both have enough together: their sum never falls below zero."""

    def take(connection, chance):
        total = connection.execute("SELECT sum(value) FROM test").fetchone()[0]
        if total >= 5:
            connection.execute(f"UPDATE test SET value = value - 5 WHERE id = {chance.choice([1, 2])}")

    load(cluster, SERIALIZABLE, take)
    assert sum(value for _, value in rows.all()) == 0


def test_one_session_alone_gives_way_to_nobody(rows):
    """Neither to what it has done itself, a transaction before, nor to what others do to another table."""
    rows.plain.execute("CREATE TABLE others (id int PRIMARY KEY)")
    try:
        (one,) = rows.begin(SERIALIZABLE, 1)
        one.commit()
        for number in range(20):
            one.run(f"BEGIN ISOLATION LEVEL {SERIALIZABLE}")
            assert one.all() == [(1, 10), (2, 20)]
            one.run("INSERT INTO test VALUES (3, 30), (4, 40)")
            rows.plain.execute(f"INSERT INTO others VALUES ({number})")
            one.run("DELETE FROM test WHERE value > 20")
            one.commit()
    finally:
        rows.plain.execute("DROP TABLE others")
