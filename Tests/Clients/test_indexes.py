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


def plan_of(connection, statement):
    return "\n".join(row[0] for row in connection.execute("EXPLAIN (COSTS OFF) " + statement))


def test_a_transaction_sees_its_own_changes_by_an_index(connection):
    connection.execute("CREATE TABLE own (id int PRIMARY KEY, a int, b text)")
    connection.execute("CREATE INDEX own_a ON own (a)")
    connection.execute("INSERT INTO own SELECT n, n % 10, 'x' FROM generate_series(1, 100) AS n")
    assert "Index Scan using own_a on own" in plan_of(connection, "SELECT id FROM own WHERE a = 3")
    find = "SELECT id FROM own WHERE a = 3 ORDER BY id LIMIT 2"
    ranges = "SELECT count(*) FROM own WHERE a IN (3, 77)"
    for level in ("READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"):
        connection.execute(f"BEGIN ISOLATION LEVEL {level}")
        connection.execute("UPDATE own SET a = 77 WHERE id = 3")
        connection.execute("INSERT INTO own VALUES (1000, 3, 'y')")
        connection.execute("SAVEPOINT s")
        connection.execute("DELETE FROM own WHERE a = 3 AND id < 20")
        assert connection.execute(find).fetchall() == [(23,), (33,)]
        assert connection.execute(ranges).fetchone() == (10,)
        connection.execute("ROLLBACK TO s")
        assert connection.execute(find).fetchall() == [(13,), (23,)]
        assert connection.execute(ranges).fetchone() == (11,)
        connection.execute("ROLLBACK")
        assert connection.execute(find).fetchall() == [(3,), (13,)]
    # An index that only the transaction knows.
    connection.execute("BEGIN")
    connection.execute("CREATE TABLE fresh (id int PRIMARY KEY, a int)")
    connection.execute("INSERT INTO fresh SELECT n, n % 10 FROM generate_series(1, 50) AS n")
    connection.execute("CREATE INDEX fresh_a ON fresh (a)")
    assert "fresh_a" in plan_of(connection, "SELECT id FROM fresh WHERE a IN (1, 2)")
    assert connection.execute("SELECT count(*) FROM fresh WHERE a IN (1, 2)").fetchone() == (10,)
    connection.execute("ROLLBACK")


def test_serializable_sees_phantoms_of_an_index(cluster, connection):
    connection.execute("CREATE TABLE shift (id int PRIMARY KEY, ward int, name text)")
    connection.execute("CREATE INDEX shift_ward ON shift (ward)")
    connection.execute("INSERT INTO shift SELECT n, n % 50, 'x' FROM generate_series(1, 200) AS n")
    with connect(cluster) as one, connect(cluster) as other:
        for open_connection in (one, other):
            open_connection.execute("BEGIN ISOLATION LEVEL SERIALIZABLE")
            assert "shift_ward" in plan_of(open_connection, "SELECT count(*) FROM shift WHERE ward = 7")
            open_connection.execute("SELECT count(*) FROM shift WHERE ward = 7").fetchone()
        failures = 0
        for number, open_connection in ((1001, one), (1002, other)):
            try:
                open_connection.execute(f"INSERT INTO shift VALUES ({number}, 7, 'y')")
                open_connection.execute("COMMIT")
            except psycopg.errors.SerializationFailure:
                failures += 1
                open_connection.execute("ROLLBACK")
        assert failures >= 1


def test_rows_whose_entries_move_are_not_missed(cluster, connection):
    connection.execute("CREATE TABLE moving (id int PRIMARY KEY, place int, note text)")
    connection.execute("CREATE INDEX moving_place ON moving (place)")
    connection.execute("INSERT INTO moving SELECT n, n, 'x' FROM generate_series(1, 6) AS n")
    count = "SELECT count(*) FROM moving WHERE place >= 0 AND place < 40"
    connection.execute("SET enable_seqscan = off")
    assert "Index Scan using moving_place on moving" in plan_of(connection, count)

    def move(open_connection, number):
        for step in range(60):
            open_connection.execute(
                "UPDATE moving SET place = (place * 7 + %s) %% 40 WHERE id %% 3 = %s", (step, number))

    def read(open_connection):
        open_connection.execute("SET enable_seqscan = off")
        for _ in range(60):
            open_connection.execute("BEGIN")
            assert open_connection.execute(count).fetchone() == (6,)
            open_connection.execute("COMMIT")
            assert open_connection.execute(count).fetchone() == (6,)

    def work(number):
        with connect(cluster) as open_connection:
            move(open_connection, number) if number < 3 else read(open_connection)

    in_threads(4, work)
    connection.execute("RESET enable_seqscan")


def test_a_row_is_asked_again_under_its_lock(cluster, connection):
    connection.execute("CREATE TABLE ask (id int PRIMARY KEY, a int, n int)")
    connection.execute("CREATE INDEX ask_a ON ask (a)")
    connection.execute("INSERT INTO ask SELECT n, n % 100, 0 FROM generate_series(1, 300) AS n")
    found = []
    with connect(cluster) as holder, connect(cluster) as waiter:
        holder.execute("BEGIN")
        holder.execute("UPDATE ask SET a = 1000 WHERE a = 5 AND id = 105")

        def work(number):
            if number == 0:
                holder.execute("COMMIT")
            else:
                found.extend(waiter.execute("UPDATE ask SET n = n + 1 WHERE a = 5 RETURNING id").fetchall())

        in_threads(2, work)
    # Whether it came before the commit, and waited, or after it.
    assert sorted(found) == [(5,), (205,)]


def test_statistics(connection):
    connection.execute("CREATE TABLE fact (id int PRIMARY KEY, kind int, note text)")
    connection.execute("INSERT INTO fact SELECT n, n % 4, CASE WHEN n % 2 = 0 THEN 'even' END FROM "
                       "generate_series(1, 2000) AS n")
    connection.execute("CREATE INDEX fact_kind ON fact (kind)")
    tuples = "SELECT reltuples FROM pg_class WHERE relname = 'fact'"
    assert connection.execute(tuples).fetchone() == (-1.0,)
    with connection.transaction():
        connection.execute("UPDATE fact SET kind = 3 WHERE id = 4")
        assert connection.execute("ANALYZE fact").statusmessage == "ANALYZE"
    assert connection.execute(tuples).fetchone() == (2000.0,)
    rows = connection.execute(
        "SELECT attname, null_frac, n_distinct, most_common_vals FROM pg_stats WHERE tablename = 'fact' ORDER BY 1"
    ).fetchall()
    assert rows == [("id", 0.0, -1.0, None), ("kind", 0.0, 4.0, "{3,1,2,0}"), ("note", 0.5, 1.0, "{even}")]
    # A quarter of all rows is not looked up one by one; a few are.
    assert "Seq Scan" in plan_of(connection, "SELECT note FROM fact WHERE kind = '2'")
    assert "fact_kind" in plan_of(connection, "SELECT note FROM fact WHERE kind = '17'")
    assert "rows=500 " in connection.execute("EXPLAIN SELECT note FROM fact WHERE kind = '2'").fetchone()[0]


def test_vacuum(cluster, connection):
    connection.execute("CREATE TABLE swept (id int PRIMARY KEY, n int)")
    connection.execute("CREATE INDEX swept_n ON swept (n)")
    connection.execute("INSERT INTO swept SELECT n, n FROM generate_series(1, 500) AS n")
    connection.execute("UPDATE swept SET n = n + 1000")
    connection.execute("DELETE FROM swept WHERE id > 400")
    rows = "SELECT count(*), sum(n) FROM swept WHERE n > 1000"
    for statement in ("VACUUM swept", "VACUUM (FULL) swept", "VACUUM ANALYZE swept", "VACUUM", "VACUUM FULL"):
        assert connection.execute(statement).statusmessage == "VACUUM"
        assert connection.execute(rows).fetchone() == (400, 480200)
    assert connection.execute("SELECT reltuples FROM pg_class WHERE relname = 'swept'").fetchone() == (400.0,)
    # Nothing waits for it, and it waits for nobody.
    with connect(cluster) as other, other.transaction():
        other.execute("UPDATE swept SET n = 0 WHERE id = 1")
        assert connection.execute("VACUUM FULL swept").statusmessage == "VACUUM"
    heard = []
    connection.add_notice_handler(lambda notice: heard.append((notice.severity, notice.message_primary)))
    connection.execute("CREATE VIEW swept_view AS SELECT id FROM swept")
    assert connection.execute("VACUUM ANALYZE swept_view, swept").statusmessage == "VACUUM"
    assert heard == [("WARNING", 'skipping "swept_view" --- cannot vacuum non-tables or special system tables')]
    # Never in a transaction: neither a block, nor several statements of one message.
    refused = pytest.raises(psycopg.errors.ActiveSqlTransaction, match="VACUUM cannot run inside a transaction block")
    with refused, connection.transaction():
        connection.execute("VACUUM swept")
    for text in (b"SELECT 1; VACUUM swept", b"VACUUM swept; SELECT 1"):
        result = connection.pgconn.exec_(text)
        assert b"VACUUM cannot run inside a transaction block" in result.error_message
    with pytest.raises(psycopg.errors.FeatureNotSupported, match="VACUUM option FREEZE is not supported"):
        connection.execute("VACUUM FREEZE swept")


def test_statistics_disturb_no_transaction(cluster, connection):
    connection.execute("CREATE TABLE quiet (id int PRIMARY KEY, n int)")
    connection.execute("INSERT INTO quiet SELECT n, n FROM generate_series(1, 100) AS n")
    with connect(cluster) as other:
        other.execute("BEGIN")
        other.execute("UPDATE quiet SET n = 0 WHERE id = 1")
        connection.execute("ANALYZE quiet")
        other.execute("UPDATE quiet SET n = 0 WHERE id = 2")
        other.execute("COMMIT")
    assert connection.execute("SELECT count(*) FROM quiet WHERE n = 0").fetchone() == (2,)
    assert connection.execute("SELECT reltuples FROM pg_class WHERE relname = 'quiet'").fetchone() == (100.0,)
