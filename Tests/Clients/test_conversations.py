"""What clients of PostgreSQL say first, and what they must hear: Tests/Transcripts/pg-clients, recorded from PostgreSQL
15 (conversations.py)."""

import os
import pathlib

import psycopg
import pytest

import conversations
from conftest import Cluster

FILES = sorted((pathlib.Path(__file__).parent.parent / "Transcripts" / "pg-clients").glob("*.txt"))


@pytest.fixture(scope="module")
def server():
    """A port and a password; ORBIT_POSTGRESQL_PORT asks PostgreSQL itself."""
    if port := os.environ.get("ORBIT_POSTGRESQL_PORT"):
        yield int(port), os.environ["PGPASSWORD"]
        return
    with Cluster("--shards", "2") as cluster:
        yield 5432 + cluster.offset, cluster.password


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_conversation(server, path):
    port, password = server
    where = f"host=127.0.0.1 port={port} user=orbit password={password} dbname=orbit"
    with psycopg.connect(where, autocommit=True) as connection:

        def execute(statement):
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

        differences = conversations.replay(path, port, password, execute)
    assert not differences, "\n".join(differences)


def test_there_are_some():
    assert {path.stem for path in FILES} == {"jdbc", "pgbench", "psql", "psycopg", "sqlalchemy"}
