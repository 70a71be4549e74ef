"""Statements that are wrong in one place: each is answered, and nothing ends but the statement.

They are made of those of Tests/SQL and of the parser's corpus: words swapped, cut and doubled, numbers made extreme,
quotes broken. ORBIT_STATEMENTS of them (1500), the same ones for each ORBIT_SEED (7 unless given)."""

import os
import random
import re

import psycopg
import pytest
from psycopg import pq

import sqllogic
from conftest import Cluster
from test_sql import connect

STATEMENTS = int(os.environ.get("ORBIT_STATEMENTS", "1500"))
SEED = os.environ.get("ORBIT_SEED", "7")
EXTREMES = [
    "0",
    "-1",
    "2147483647",
    "-2147483648",
    "2147483648",
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775808",
    "1e400",
    "1e-400",
    "'NaN'",
    "'infinity'",
    "NULL",
    "''",
    "'\\xff'",
    "1.5",
]
WORD = re.compile(r"\s+|[A-Za-z_][A-Za-z_0-9]*|\d+(?:\.\d+)?|'(?:[^']|'')*'|.", re.DOTALL)
# What may not be done to a cluster that is needed on: sessions that end themselves, and waits.
LEFT_OUT = re.compile(
    r"pg_sleep|pg_terminate|shutdown|\bcopy\b|\blisten\b|\bpassword\b|\brole\b|\buser\b", re.IGNORECASE
)


def corpus():
    statements = [statement for name in sqllogic.files() for _, _, statement, _ in sqllogic.blocks(name)]
    text = (sqllogic.FOLDER / "parser" / "statements.sql").read_text()
    statements += [part.strip() for part in text.split(";\n") if part.strip()]
    return [statement for statement in statements if not LEFT_OUT.search(statement)]


def mutated(statement, statements, chance):
    words = WORD.findall(statement)
    for _ in range(chance.choice([1, 1, 1, 2, 3])):
        if not words:
            break
        place = chance.randrange(len(words))
        form = chance.randrange(9)
        if form == 0:
            other = chance.randrange(len(words))
            words[place], words[other] = words[other], words[place]
        elif form == 1:
            del words[place : place + chance.choice([1, 1, 2, 5])]
        elif form == 2:
            words.insert(place, words[place])
        elif form == 3:
            words = words[: place + 1]
        elif form == 4:
            words[place] = words[place].replace("'", "") if "'" in words[place] else "'"
        elif form == 5:
            other = WORD.findall(chance.choice(statements))
            start = chance.randrange(len(other)) if other else 0
            words[place : place + 1] = other[start : start + chance.choice([1, 3, 8])]
        elif form == 6:
            words[place] = chance.choice(["(", ")", ",", "*", ".", "::", "[", "]", "$1", "é", "\x01", ";", "--", "/*"])
        else:
            numbers = [index for index, word in enumerate(words) if word[0].isdigit()]
            words[chance.choice(numbers) if numbers else place] = chance.choice(EXTREMES)
    return "".join(words).replace("\x00", "")


@pytest.fixture(scope="module")
def cluster():
    with Cluster("--shards", "2") as running:
        yield running


def test_statements_that_are_wrong_in_one_place(cluster):
    chance = random.Random(0 if SEED == "new" else int(SEED))
    if SEED == "new":
        seed = random.randrange(2**32)
        print(f"ORBIT_SEED={seed}")
        chance = random.Random(seed)
    statements, before, failures = corpus(), cluster.pids(), []
    connection = connect(cluster, options="-c statement_timeout=20s")
    try:
        for _ in range(STATEMENTS):
            statement = mutated(chance.choice(statements), statements, chance)
            if LEFT_OUT.search(statement):
                continue
            result = connection.pgconn.exec_(statement.encode())
            state = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
            if result.status == pq.ExecStatus.FATAL_ERROR and (not state or state[:2] in ("XX", "08", "58")):
                message = (result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or result.error_message).decode()
                failures.append(f"{state}: {message}: {statement}")
            if connection.pgconn.transaction_status != pq.TransactionStatus.IDLE:
                connection.pgconn.exec_(b"ROLLBACK")
            if connection.pgconn.status != pq.ConnStatus.OK:
                failures.append(f"the connection is gone: {statement}")
                connection = connect(cluster, options="-c statement_timeout=20s")
    finally:
        connection.close()
    assert not failures, "\n".join(failures)
    assert cluster.pids() == before
    with connect(cluster) as fresh:
        assert fresh.execute("SELECT 1").fetchone() == (1,)
