"""The system catalogs through clients: psql's commands beside what PostgreSQL 15 prints, SQLAlchemy's reflection, and
types as psycopg looks them up."""

import pathlib
import subprocess

import psycopg
import pytest
import sqlalchemy
from psycopg.types import TypeInfo
from psycopg.types.composite import CompositeInfo
from psycopg.types.enum import EnumInfo
from psycopg.types.range import RangeInfo
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from conftest import PATIENCE, Cluster

HERE = pathlib.Path(__file__).parent / "psql"


@pytest.fixture(scope="module")
def cluster():
    with Cluster("--shards", "2") as running:
        psql(running, "-q", "-v", "ON_ERROR_STOP=1", "-f", str(HERE / "schema.sql"))
        yield running


def where(cluster, **more):
    parts = {"host": "127.0.0.1", "port": 5432 + cluster.offset, "user": "orbit", "password": cluster.password}
    return " ".join(f"{name}={value}" for name, value in {**parts, "dbname": "orbit", **more}.items())


def psql(cluster, *arguments):
    result = subprocess.run(
        ["psql", "-X", where(cluster), *arguments], capture_output=True, text=True, timeout=PATIENCE
    )
    return result.stdout + result.stderr


def answers():
    """Commands of psql, and what it prints with PostgreSQL 15.18 after schema.sql."""
    for part in (HERE / "answers.txt").read_text().split("#### ")[1:]:
        command, _, answer = part.partition("\n")
        yield command, answer


@pytest.mark.parametrize("command,answer", list(answers()), ids=lambda text: text if text.startswith("\\") else "")
def test_psql_prints_what_it_prints_with_postgresql(cluster, command, answer):
    assert psql(cluster, "-c", command) == answer


def test_psql_lists_databases_and_settings(cluster):
    assert " orbit " in psql(cluster, "-c", "\\l")
    assert "abs" in psql(cluster, "-c", "\\df abs")


def test_types_as_psycopg_finds_them(cluster):
    with psycopg.connect(where(cluster), autocommit=True) as connection:
        assert (TypeInfo.fetch(connection, "int4").oid, TypeInfo.fetch(connection, "text").array_oid) == (23, 1009)
        assert TypeInfo.fetch(connection, "timestamptz").regtype == "timestamp with time zone"
        assert TypeInfo.fetch(connection, "hstore") is None
        for missing in (EnumInfo, CompositeInfo, RangeInfo):
            assert missing.fetch(connection, "nothing") is None


def test_numbers_of_objects_in_both_formats(cluster):
    with psycopg.connect(where(cluster), autocommit=True) as connection:
        (number,) = connection.execute("SELECT oid FROM pg_class WHERE relname = 'plain'").fetchone()
        query = "SELECT 'plain'::regclass, 'int4'::regtype, 'shop.items'::regclass, NULL::regclass"
        assert connection.execute(query).fetchone() == ("plain", "integer", "shop.items", None)
        with connection.cursor(binary=True) as cursor:
            row = cursor.execute(query).fetchone()
            assert [bytes(value) for value in row[:2]] == [number.to_bytes(4, "big"), (23).to_bytes(4, "big")]
        found = connection.execute("SELECT relname FROM pg_class WHERE oid = %s::regclass", ("plain",)).fetchone()
        assert found == ("plain",)


@pytest.fixture(scope="module")
def engine(cluster):
    engine = sqlalchemy.create_engine(
        f"postgresql+psycopg://orbit:{cluster.password}@127.0.0.1:{5432 + cluster.offset}/orbit"
    )
    yield engine
    engine.dispose()


def test_sqlalchemy_reflects_tables(engine):
    inspector = sqlalchemy.inspect(engine)
    assert {"public", "shop"} <= set(inspector.get_schema_names())
    assert {"customers", "orders", "plain", "Odd Name"} <= set(inspector.get_table_names())
    assert set(inspector.get_sequence_names()) == {"customers_id_seq", "orders_id_seq", "numbers"}
    assert inspector.has_table("customers") and not inspector.has_table("nothing")
    columns = {column["name"]: column for column in inspector.get_columns("customers")}
    assert list(columns) == ["id", "name", "email", "born", "score", "vip", "note"]
    assert columns["id"]["autoincrement"] and columns["id"]["default"] == "nextval('customers_id_seq'::regclass)"
    assert str(columns["name"]["type"]) == "VARCHAR(40)" and not columns["name"]["nullable"]
    assert str(columns["score"]["type"]) == "NUMERIC(10, 2)" and columns["score"]["default"] == "0.00"
    identity = inspector.get_columns("orders")[0]["identity"]
    assert (identity["always"], identity["start"], identity["increment"]) == (True, 1, 1)
    assert inspector.get_pk_constraint("items", schema="shop")["constrained_columns"] == ["a", "b"]
    assert [each["column_names"] for each in inspector.get_unique_constraints("customers")] == [["email"]]
    assert [each["column_names"] for each in inspector.get_indexes("orders")] == [["customer", "placed"]]
    assert [each["sqltext"] for each in inspector.get_check_constraints("customers")] == ["score >= 0::numeric"]
    assert inspector.get_foreign_keys("orders") == []
    everything = sqlalchemy.MetaData()
    everything.reflect(engine)
    assert {"customers", "orders"} <= set(everything.tables)


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(sqlalchemy.String(30), unique=True)
    weight: Mapped[float | None] = mapped_column(sqlalchemy.Numeric(8, 3))


def test_sqlalchemy_makes_tables_and_keeps_objects(engine):
    Base.metadata.create_all(engine)
    Base.metadata.create_all(engine)  # Finds that they are there.
    with Session(engine) as session:
        session.add_all([Note(title="first", weight=1.5), Note(title="second")])
        session.commit()
        found = session.scalars(sqlalchemy.select(Note).where(Note.title == "first")).one()
        found.weight = 2
        session.commit()
    with Session(engine) as session:
        notes = session.scalars(sqlalchemy.select(Note).order_by(Note.id)).all()
        assert [(note.title, note.weight) for note in notes] == [("first", 2), ("second", None)]
        session.delete(notes[0])
        session.commit()
    Base.metadata.drop_all(engine)
    assert not sqlalchemy.inspect(engine).has_table("notes")
