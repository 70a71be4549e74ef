"""Queries of pg-gw that need several connections, or a cluster: locks of rows."""

import threading

import psycopg
import pytest

from conftest import Cluster
from test_sql import connect


@pytest.fixture(scope="module")
def cluster():
    with Cluster("--shards", "4") as running:
        yield running


@pytest.fixture
def jobs(cluster):
    with connect(cluster) as connection:
        connection.execute("CREATE TABLE job (id int PRIMARY KEY, state text, n int DEFAULT 0)")
        connection.execute("INSERT INTO job SELECT g, 'free' FROM generate_series(1, 40) g")
        yield connection
        connection.execute("DROP TABLE job")


def beside(body):
    """Runs `body` in a thread; its result, or its error, is asked for by calling what this gives."""
    outcome = []

    def run():
        try:
            outcome.append((body(), None))
        except Exception as error:
            outcome.append((None, error))

    thread = threading.Thread(target=run)
    thread.start()

    def result():
        thread.join()
        value, error = outcome[0]
        if error:
            raise error
        return value

    return result


def test_locked_rows_are_waited_for_skipped_or_refused(cluster, jobs):
    with connect(cluster) as other:
        jobs.execute("BEGIN")
        first = jobs.execute("SELECT id FROM job WHERE state = 'free' ORDER BY id LIMIT 2 FOR UPDATE").fetchall()
        assert first == [(1,), (2,)]
        # The others are free: LIMIT locks what it gives, and nothing else.
        skipping = "SELECT id FROM job WHERE state = 'free' ORDER BY id LIMIT 2 FOR UPDATE SKIP LOCKED"
        assert other.execute(skipping).fetchall() == [(3,), (4,)]
        with pytest.raises(psycopg.errors.LockNotAvailable, match='on row in relation "job"'):
            other.execute("SELECT id FROM job WHERE n = 0 ORDER BY id LIMIT 1 FOR UPDATE NOWAIT")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            other.execute("SELECT id FROM job WHERE id = 2 FOR SHARE NOWAIT")
        assert other.execute("SELECT count(*) FROM job").fetchone() == (40,)
        jobs.execute("COMMIT")
        assert other.execute("SELECT id FROM job WHERE id = 2 FOR UPDATE NOWAIT").fetchall() == [(2,)]


def test_shared_locks_are_shared(cluster, jobs):
    with connect(cluster) as other:
        jobs.execute("BEGIN")
        jobs.execute("SELECT id FROM job WHERE id < 3 FOR SHARE")
        assert other.execute("SELECT id FROM job WHERE id = 1 FOR SHARE NOWAIT").fetchall() == [(1,)]
        with pytest.raises(psycopg.errors.LockNotAvailable):
            other.execute("SELECT id FROM job WHERE id = 1 FOR UPDATE NOWAIT")
        jobs.execute("ROLLBACK")


def test_a_row_that_was_waited_for_must_still_be_meant(cluster, jobs):
    with connect(cluster) as other:
        jobs.execute("BEGIN")
        jobs.execute("UPDATE job SET state = 'taken', n = 7 WHERE id = 1")
        next_one = beside(
            lambda: other.execute(
                "SELECT id, n FROM job WHERE state = 'free' ORDER BY id LIMIT 1 FOR UPDATE"
            ).fetchall()
        )
        jobs.execute("COMMIT")
        assert next_one() == [(2, 0)]
        jobs.execute("BEGIN")
        jobs.execute("UPDATE job SET n = 8 WHERE id = 1")
        fresh = beside(lambda: other.execute("SELECT id, n FROM job WHERE n > 0 FOR UPDATE").fetchall())
        jobs.execute("COMMIT")
        assert fresh() == [(1, 8)]
        jobs.execute("BEGIN")
        jobs.execute("UPDATE job SET state = 'done' WHERE id < 10")
        count = beside(lambda: other.execute("UPDATE job SET state = 'late' WHERE state = 'free'").rowcount)
        jobs.execute("COMMIT")
        assert count() == 31


def test_updates_of_other_rows_do_not_meet(cluster, jobs):
    with connect(cluster) as other:
        jobs.execute("BEGIN")
        jobs.execute("UPDATE job SET state = 'mine' WHERE n = 0 AND id BETWEEN 1 AND 5")
        other.execute("BEGIN")
        other.execute("UPDATE job SET state = 'theirs' WHERE state = 'free' AND id % 40 > 5")
        other.execute("DELETE FROM job WHERE state = 'theirs' AND id > 30 AND n = 0")
        other.execute("COMMIT")
        jobs.execute("COMMIT")
        counts = jobs.execute("SELECT state, count(*) FROM job GROUP BY state ORDER BY state").fetchall()
        assert counts == [("free", 1), ("mine", 5), ("theirs", 25)]


def test_every_job_is_taken_once(cluster, jobs):
    taken = []

    def work():
        with connect(cluster) as own:
            while True:
                with own.transaction():
                    rows = own.execute(
                        "SELECT id FROM job WHERE state = 'free' LIMIT 1 FOR UPDATE SKIP LOCKED"
                    ).fetchall()
                    if rows:
                        own.execute("UPDATE job SET state = 'done', n = n + 1 WHERE id = %s", rows[0])
                if not rows:
                    return
                taken.append(rows[0][0])

    workers = [beside(work) for _ in range(3)]
    for worker in workers:
        worker()
    assert sorted(taken) == list(range(1, 41))
    assert jobs.execute("SELECT min(n), max(n) FROM job").fetchone() == (1, 1)


def test_nothing_is_lost_without_a_key(cluster, jobs):
    def count():
        with connect(cluster) as own:
            done = 0
            while done < 10:
                try:
                    own.execute("UPDATE job SET n = n + 1 WHERE state = 'free' AND id + 0 = 9")
                    done += 1
                except psycopg.errors.SerializationFailure:
                    pass

    counters = [beside(count) for _ in range(3)]
    for counter in counters:
        counter()
    assert jobs.execute("SELECT n FROM job WHERE id = 9").fetchone() == (30,)


def test_truncate_is_undone_and_seen_by_others_at_once(cluster, jobs):
    with connect(cluster) as other:
        jobs.execute("BEGIN")
        jobs.execute("TRUNCATE job")
        jobs.execute("INSERT INTO job VALUES (1, 'fresh')")
        assert jobs.execute("SELECT count(*) FROM job").fetchone() == (1,)
        assert other.execute("SELECT count(*) FROM job").fetchone() == (40,)
        jobs.execute("ROLLBACK")
        assert jobs.execute("SELECT count(*) FROM job").fetchone() == (40,)
        jobs.execute("TRUNCATE job")
        assert other.execute("SELECT count(*) FROM job").fetchone() == (0,)
        other.execute("INSERT INTO job VALUES (1, 'again')")
        assert jobs.execute("SELECT id, state FROM job").fetchall() == [(1, "again")]


def test_plans_are_explained(cluster, jobs):
    def explain(text):
        return [line for (line,) in jobs.execute(text).fetchall()]

    assert explain("EXPLAIN (COSTS OFF) SELECT n FROM job WHERE id = 3")[0] == "Key Lookup on job"
    lines = explain("EXPLAIN ANALYZE UPDATE job SET n = 1 WHERE state = 'free' AND id < 4")
    assert lines[0].startswith("Update on job  (cost=0.00..") and lines[-1].startswith("Execution Time: ")
    assert jobs.execute("SELECT sum(n) FROM job").fetchone() == (3,)
    (tree,) = jobs.execute("EXPLAIN (FORMAT JSON) SELECT * FROM job ORDER BY id").fetchone()
    assert tree[0]["Plan"]["Node Type"] == "Sort"
    assert jobs.execute("EXPLAIN SELECT 1").statusmessage == "EXPLAIN"


def test_changes_in_with_are_one_statement(cluster, jobs):
    gone = "WITH gone AS (DELETE FROM job WHERE id <= 10 RETURNING id)"
    assert jobs.execute(f"{gone} INSERT INTO job SELECT id + 100, 'new' FROM gone").rowcount == 10
    assert jobs.execute("SELECT count(*), min(id), max(id) FROM job").fetchone() == (40, 11, 110)
    with pytest.raises(psycopg.errors.UniqueViolation):
        jobs.execute("WITH gone AS (DELETE FROM job RETURNING id) INSERT INTO job SELECT 1, 'same' FROM gone")
    assert jobs.execute("SELECT count(*) FROM job").fetchone() == (40,)
