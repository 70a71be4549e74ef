"""The two databases under comparison, and what kinds of differences there are between their answers."""

import time

import psycopg
from psycopg import pq

# Orbit does not have it (yet): it says so, or does not know the name.
MISSING = ("0A000", "42883")
SETTINGS = ("timezone = 'UTC'", "extra_float_digits = 1", "statement_timeout = '60s'")
FLOATS = (700, 701)
FIELDS = {
    "position": pq.DiagnosticField.STATEMENT_POSITION,
    "detail": pq.DiagnosticField.MESSAGE_DETAIL,
    "constraint": pq.DiagnosticField.CONSTRAINT_NAME,
    "table": pq.DiagnosticField.TABLE_NAME,
    "column": pq.DiagnosticField.COLUMN_NAME,
}


class Side:
    """A connection on which statements are run as text."""

    def __init__(self, where):
        self.connection = psycopg.connect(where, autocommit=True)
        self.longest = (0.0, "")
        for setting in SETTINGS:
            self.run(f"SET {setting}")

    def run(self, text):
        """("rows", [types], [names], [rows]), ("done", tag) or ("error", state, words, fields)."""
        started = time.monotonic()
        result = self.connection.pgconn.exec_(str(text).encode())
        self.longest = max(self.longest, (time.monotonic() - started, str(text)))
        if result.status == pq.ExecStatus.TUPLES_OK:
            columns = range(result.nfields)
            types, names = [result.ftype(column) for column in columns], [result.fname(column) for column in columns]
            rows = [tuple(result.get_value(row, column) for column in columns) for row in range(result.ntuples)]
            return "rows", types, names, rows
        if result.status == pq.ExecStatus.COMMAND_OK:
            return "done", (result.command_status or b"").decode()
        state = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode() or "LOST"
        words = (result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or result.error_message or b"").decode()
        given = {name: (result.error_field(field) or b"").decode() for name, field in FIELDS.items()}
        return "error", state, words, {name: text for name, text in given.items() if text}


def sortable(row):
    return tuple((value is not None, value or b"") for value in row)


def blurred(answer):
    """The rows with nine digits of the numbers whose last ones depend on the order of computation."""
    places = [place for place, kind in enumerate(answer[1]) if kind in FLOATS]
    rows = []
    for row in answer[3]:
        values = list(row)
        for place in places:
            values[place] = row[place] and b"%.9e" % float(row[place])
        rows.append(tuple(values))
    return sorted(rows, key=sortable)


def difference(theirs, ours, is_ordered=False):
    """What kind of difference there is between PostgreSQL's answer and Orbit's; None if there is none."""
    if ours[0] == "error" and (ours[1] == "LOST" or ours[1].startswith(("XX", "57P"))):
        return "broken"
    if "57014" in (theirs[1], ours[1]):
        return None if theirs[1] == ours[1] else "slow"
    if theirs[0] != ours[0]:
        if ours[0] == "error":
            return "missing" if ours[1] in MISSING else "refused"
        return "error expected" if theirs[0] == "error" else "kind"
    if theirs[0] == "error":
        if theirs[1] != ours[1]:
            return "missing" if ours[1] in MISSING else "state"
        if theirs[2] != ours[2]:
            return "words"
        if theirs[3] == ours[3]:
            return None
        is_placed = {**theirs[3], "position": ours[3].get("position")} == ours[3] and "position" not in theirs[3]
        return "place told" if is_placed else "fields"
    if theirs[0] == "done":
        return None if theirs == ours else "tag"
    if theirs[1] != ours[1]:
        return "types"
    if sorted(theirs[3], key=sortable) != sorted(ours[3], key=sortable):
        return "last digits" if blurred(theirs) == blurred(ours) else "rows"
    if is_ordered and theirs[3] != ours[3]:
        return "order"
    return None if theirs[2] == ours[2] else "names"


def shown(answer, limit=600):
    return str(answer)[:limit]
