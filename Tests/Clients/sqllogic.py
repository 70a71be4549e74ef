"""Statements with the answers that they must have: the files of Tests/SQL, run over any connection.

A file has blocks with an empty line between; `#` begins a comment line:

    statement ok                    it must be done
    INSERT INTO t VALUES (1)

    statement error 22012 division by zero
    SELECT 1 / 0

    query                           the rows in their order, or in any: `query unordered`
    SELECT 1, NULL, ''
    ----
    1|NULL|

What PostgreSQL 15 answers to them is what the files hold.
"""

import pathlib

from psycopg import pq

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "SQL"


def files():
    """The names of all files; a folder without any is a mistake."""
    found = sorted(path.name for path in FOLDER.glob("*.slt"))
    assert found, f"no .slt files in {FOLDER}"
    return found


def blocks(name):
    """(line, kind, statement, rows or None) of each block."""
    kept, start = [], 0
    for number, line in enumerate([*(FOLDER / name).read_text().split("\n"), ""], 1):
        if line and not line.startswith("#"):
            kept.append(line)
            start = start or number
        elif not line and kept:
            kind, *rest = kept
            if "----" in rest:
                end = rest.index("----")
                yield start, kind, "\n".join(rest[:end]), rest[end + 1 :]
            else:
                yield start, kind, "\n".join(rest), None
            kept, start = [], 0


def answer(connection, statement):
    """("rows", texts), ("error", state, message) or ("ok",)."""
    result = connection.pgconn.exec_(statement.encode())
    if result.status == pq.ExecStatus.FATAL_ERROR:
        field = pq.DiagnosticField
        parts = (result.error_field(which) or b"" for which in (field.SQLSTATE, field.MESSAGE_PRIMARY))
        return ("error", *(part.decode() for part in parts))
    if result.status == pq.ExecStatus.TUPLES_OK:
        return "rows", [row(result, number) for number in range(result.ntuples)]
    return ("ok",)


def row(result, number):
    values = [result.get_value(number, column) for column in range(result.nfields)]
    return "|".join("NULL" if value is None else value.decode() for value in values) or "(empty)"


def differences(connection, name):
    """What is answered otherwise than the file says."""
    found = []
    for line, kind, statement, rows in blocks(name):
        given = answer(connection, statement)
        if given[0] == "rows":
            given = ("rows", [text for shown in given[1] for text in shown.split("\n")])  # As psql prints them.
        if kind == "query unordered":
            given, wanted = (given[0], sorted(given[1])) if given[0] == "rows" else given, ("rows", sorted(rows))
        elif kind == "query":
            wanted = ("rows", rows)
        elif kind == "statement ok":
            wanted = given if given[0] in ("ok", "rows") else ("ok",)
        else:
            wanted = tuple(kind.removeprefix("statement ").split(" ", 2))
        if given != wanted:
            found.append(f"{name}:{line}: {statement}\n  wanted {wanted}\n  given  {given}")
    return found
