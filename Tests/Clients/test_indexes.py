"""Unique constraints and indexes with psycopg, on clusters of real processes: who wins when several want one value, and
what a node that is killed leaves behind."""

import signal
import threading

import psycopg
import pytest

from conftest import PATIENCE, Cluster, kill, wait_until
from test_sql import connect


@pytest.fixture(scope="module")
def cluster():
    with Cluster("--shards", "4") as running:
        yield running


@pytest.fixture
def connection(cluster):
    with connect(cluster) as open_connection:
        yield open_connection


def in_threads(count, work):
    """Has `work(number)` done by that many threads at once; what one of them raises is raised."""
    failures, start = [], threading.Barrier(count)

    def run(number):
        try:
            start.wait(PATIENCE)
            work(number)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert not failures, failures[0]


def test_errors_say_what_is_violated(connection):
    connection.execute("CREATE TABLE fields (id int PRIMARY KEY, a int, b text, CONSTRAINT pair UNIQUE (a, b))")
    connection.execute("INSERT INTO fields VALUES (1, 1, 'x')")
    with pytest.raises(psycopg.errors.UniqueViolation) as caught:
        connection.execute("INSERT INTO fields VALUES (2, 1, 'x')")
    diagnosis = caught.value.diag
    assert diagnosis.message_primary == 'duplicate key value violates unique constraint "pair"'
    assert diagnosis.message_detail == "Key (a, b)=(1, x) already exists."
    fields = (diagnosis.schema_name, diagnosis.table_name, diagnosis.constraint_name)
    assert fields == ("public", "fields", "pair")
    with pytest.raises(psycopg.errors.UniqueViolation) as caught:
        connection.execute("INSERT INTO fields VALUES (1, 2, 'x')")
    diagnosis = caught.value.diag
    assert diagnosis.message_detail == "Key (id)=(1) already exists."
    assert (diagnosis.schema_name, diagnosis.constraint_name) == ("public", "fields_pkey")


def test_of_those_who_want_one_value_exactly_one_gets_it(cluster, connection):
    connection.execute("CREATE TABLE wanted (id int PRIMARY KEY, v int UNIQUE)")
    rounds, clients = 25, 4
    winners = [[] for _ in range(rounds)]

    def work(number):
        with connect(cluster) as own:
            for turn in range(rounds):
                try:
                    own.execute("INSERT INTO wanted VALUES (%s, %s)", (turn * clients + number, turn))
                    winners[turn].append(number)
                except psycopg.errors.UniqueViolation:
                    pass

    in_threads(clients, work)
    assert [len(won) for won in winners] == [1] * rounds
    rows = connection.execute("SELECT v, id FROM wanted ORDER BY v").fetchall()
    assert rows == [(turn, turn * clients + won[0]) for turn, won in enumerate(winners)]


def test_a_value_passes_from_row_to_row(cluster, connection):
    """One row has the value at any time; those who give it up and those who take it do so at once."""
    connection.execute("CREATE TABLE baton (id int PRIMARY KEY, v int UNIQUE)")
    connection.execute("INSERT INTO baton VALUES (0, 7), (1, NULL), (2, NULL), (3, NULL)")
    taken = []

    def work(number):
        with connect(cluster) as own:
            for _ in range(20):
                try:
                    with own.transaction():
                        own.execute("UPDATE baton SET v = NULL WHERE v = 7")
                        own.execute("UPDATE baton SET v = 7 WHERE id = %s", (number,))
                    taken.append(number)
                except (psycopg.errors.UniqueViolation, psycopg.errors.DeadlockDetected):
                    pass

    in_threads(4, work)
    assert taken
    assert connection.execute("SELECT count(*) FROM baton WHERE v = 7").fetchone() == (1,)
    holder = connection.execute("SELECT id FROM baton WHERE v = 7").fetchone()[0]
    with pytest.raises(psycopg.errors.UniqueViolation):
        connection.execute("INSERT INTO baton VALUES (9, 7)")
    connection.execute("DELETE FROM baton WHERE id = %s", (holder,))
    connection.execute("INSERT INTO baton VALUES (9, 7)")


def test_upserts_by_a_unique_value_count_all(cluster, connection):
    connection.execute("CREATE TABLE hits (id serial PRIMARY KEY, page text UNIQUE, n int NOT NULL)")
    statement = "INSERT INTO hits (page, n) VALUES (%s, 1) ON CONFLICT (page) DO UPDATE SET n = hits.n + 1"

    def work(number):
        with connect(cluster) as own:
            for turn in range(30):
                own.execute(statement, (f"page {turn % 3}",))

    in_threads(4, work)
    assert connection.execute("SELECT page, n FROM hits ORDER BY page").fetchall() == [
        (f"page {number}", 40) for number in range(3)
    ]


def test_what_is_rolled_back_frees_its_values(cluster, connection):
    connection.execute("CREATE TABLE undone (id int PRIMARY KEY, v int UNIQUE)")
    with connect(cluster, autocommit=False) as other:
        other.execute("INSERT INTO undone VALUES (1, 1)")
        other.execute("SAVEPOINT s")
        other.execute("INSERT INTO undone VALUES (2, 2)")
        other.execute("ROLLBACK TO s")
        other.execute("INSERT INTO undone VALUES (3, 2)")
        other.commit()
        other.execute("UPDATE undone SET v = 5 WHERE id = 1")
        other.rollback()
    with pytest.raises(psycopg.errors.UniqueViolation):
        connection.execute("INSERT INTO undone VALUES (4, 1)")
    connection.execute("INSERT INTO undone VALUES (5, 5)")
    rows = connection.execute("SELECT id, v FROM undone ORDER BY id").fetchall()
    assert rows == [(1, 1), (3, 2), (5, 5)]


def test_a_large_table_is_changed_in_steps(cluster, connection):
    """More rows than one transaction holds; who writes meanwhile waits, and a second failure leaves nothing behind."""
    connection.execute("CREATE TABLE large (id int, v int, filler text)")
    statement = "INSERT INTO large SELECT n, n / 2, repeat('x', 300) FROM generate_series(%s::int, %s::int) AS n"
    for first in range(0, 16_000, 4_000):
        connection.execute(statement, (first, first + 3_999))
    with pytest.raises(psycopg.errors.UniqueViolation, match='could not create unique index "large_v_key"'):
        connection.execute("ALTER TABLE large ADD UNIQUE (v)")
    connection.execute("CREATE INDEX large_v ON large (v)")
    with connect(cluster, autocommit=False) as other:
        with pytest.raises(psycopg.errors.ProgramLimitExceeded):
            other.execute("ALTER TABLE large ADD PRIMARY KEY (id)")
    connection.execute("ALTER TABLE large ADD PRIMARY KEY (id)")
    assert connection.execute("SELECT count(*), sum(id), sum(v) FROM large").fetchone() == (
        16_000, 16_000 * 15_999 // 2, sum(n // 2 for n in range(16_000)),
    )  # fmt: skip
    assert connection.execute("SELECT id FROM large WHERE v = 4711 ORDER BY id").fetchall() == [(9422,), (9423,)]
    with pytest.raises(psycopg.errors.UniqueViolation):
        connection.execute("INSERT INTO large VALUES (15999, 1, '')")
    connection.execute("DROP TABLE large")
