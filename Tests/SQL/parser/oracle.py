"""Writes verdicts.txt: what PostgreSQL 15's own parser (pglast 5.10, libpg_query) says to statements.sql, to their
prefixes and to statements made of them by leaving out, doubling, exchanging and inserting words.

    pip install pglast==5.10 && python3 Tests/SQL/parser/oracle.py

A line is `ok`, or the position (characters, from one; 0: not told) and the message, then a tab and the statement."""

import pathlib
import random
import re

import pglast

HERE = pathlib.Path(__file__).parent
MUTATIONS = 9
# pglast reads 1a as 1 AS a; the server has refused that since version 15.
JUNK = re.compile(r"(?<![\w'\"])\.?\d[\d.]*(?!e\d)[A-Za-z_]")
WORD = re.compile(r"'(?:[^']|'')*'|\"[^\"]*\"|\w+|::|<>|[<>=!]+|\s+|.")


def verdict(statement: str) -> str:
    try:
        pglast.parser.parse_sql_json(statement)
        return "ok"
    except pglast.parser.ParseError as error:
        # pglast counts from zero, tells no position at the end of the input, and miscounts what is not ASCII.
        message, location = error.args[0], error.args[1]
        known = location is not None and statement.isascii()
        return f"{location + 1 if known else 0} {message}"


def mutations(statement: str, words: list[str], pick: random.Random):
    """Some statements that are like this one, most of them wrong."""
    parts = [part for part in WORD.findall(statement)]
    solid = [index for index, part in enumerate(parts) if not part.isspace()]
    for _ in range(MUTATIONS):
        changed = list(parts)
        at = pick.choice(solid)
        kind = pick.randrange(5)
        if kind == 0:
            del changed[at]
        elif kind == 1:
            changed.insert(at, changed[at] + " ")
        elif kind == 2:
            other = pick.choice(solid)
            changed[at], changed[other] = changed[other], changed[at]
        elif kind == 3:
            changed.insert(at, pick.choice(words) + " ")
        else:
            changed = changed[: at + 1]
        yield "".join(changed).strip()


def main():
    statements = [line for line in (HERE / "statements.sql").read_text().splitlines() if line]
    words = sorted({word for line in statements for word in WORD.findall(line) if not word.isspace()})
    pick = random.Random(15)
    seen: dict[str, str] = {}
    for statement in statements:
        seen.setdefault(statement, verdict(statement))
    for statement in statements:
        for changed in mutations(statement, words, pick):
            if changed and not JUNK.search(changed) and "\n" not in changed and "\t" not in changed:
                seen.setdefault(changed, verdict(changed))
    lines = [f"{judged}\t{statement}\n" for statement, judged in seen.items() if "\n" not in judged]
    (HERE / "verdicts.txt").write_text("".join(lines))
    print(len(lines), "statements,", sum(line.startswith("ok") for line in lines), "accepted")


if __name__ == "__main__":
    main()
