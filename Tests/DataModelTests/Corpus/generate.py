#!/usr/bin/env python3
"""Asks a PostgreSQL 15 what it makes of the texts in inputs.txt, and writes values.txt.

usage: generate.py <psql options>      (UTF-8, time zones of its own; nothing is left behind in the database)

inputs.txt: a line with a type in brackets, then one text a line; \\n \\t \\\\ are escapes, the empty text is \\e.
A type that begins with `= ` is an expression instead, its arguments stand in the line with ` | ` between them;
`= extract T` is extract(argument from argument of type T).

values.txt: type, text, then `ok` and what it prints, or SQLSTATE and message, and the detail if any; tabs between.
"""
import pathlib
import subprocess
import sys

here = pathlib.Path(__file__).parent
ESCAPES = [("\\", "\\\\"), ("\n", "\\n"), ("\t", "\\t"), ("\r", "\\r")]


def unescape(text):
    if text == "\\e":
        return ""
    out, rest = "", iter(text)
    for char in rest:
        out += {"n": "\n", "t": "\t", "r": "\r", "\\": "\\"}[next(rest)] if char == "\\" else char
    return out


def escape(text):
    for plain, escaped in ESCAPES:
        text = text.replace(plain, escaped)
    return text or "\\e"


FUNCTION = """
SET client_min_messages = error; SET timezone = 'America/New_York';
CREATE FUNCTION pg_temp.answer(expression text) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE result text; state text; message text; detail text;
BEGIN
  EXECUTE 'SELECT format(''%s'', ' || expression || ')' INTO result;
  RETURN ARRAY['ok', result];
EXCEPTION WHEN others THEN
  GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL;
  RETURN ARRAY[state, message, detail];
END $$;
CREATE FUNCTION pg_temp.reading(type text, input text) RETURNS text[] LANGUAGE sql AS
$$ SELECT pg_temp.answer(format('%L::%s', input, type)) $$;
"""


def quoted(text):
    return "E'" + text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n").replace("\r", "\\r") + "'"


def question(kind, text):
    if not kind.startswith("= "):
        return f"pg_temp.reading({quoted(kind)}, {quoted(text)})"
    first, *rest = [f"E'{part}'" for part in text.split(" | ")]
    if kind.startswith("= extract "):
        expression = f"extract({text.split(' | ')[0]} from {rest[0]}::{kind[10:]})"
    else:
        expression = kind[2:].replace("$1", first).replace("$2", rest[0] if rest else "")
    return f"pg_temp.answer({quoted(expression)})"


def main():
    kind, questions = "", []
    for line in (here / "inputs.txt").read_text().splitlines():
        if line.startswith("[[") and line.endswith("]]"):
            kind = line[2:-2]
        elif line:
            questions.append((kind, unescape(line)))
    script = FUNCTION + "".join(
        f"SELECT array_to_json({question(kind, text)})::text;\n" for kind, text in questions)
    answer = subprocess.run(
        ["psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", *sys.argv[1:]], input=script, text=True, check=True,
        capture_output=True).stdout.splitlines()
    import json

    lines = [json.loads(line) for line in answer if line]
    assert len(lines) == len(questions), (len(lines), len(questions))
    with open(here / "values.txt", "w") as out:
        for (kind, text), fields in zip(questions, lines):
            while fields[-1] == "" and len(fields) > 2:
                fields.pop()
            out.write("\t".join(escape(field) for field in [kind, text, *fields]) + "\n")


main()
