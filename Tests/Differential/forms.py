"""What expressions are made of: the files templates.txt and values.txt."""

import pathlib
import re

from nodes import Node

FOLDER = pathlib.Path(__file__).parent
NUMBERS = ["int2", "int4", "int8", "numeric", "float4", "float8"]
TYPES = [
    *NUMBERS, "bool", "text", "varchar(8)", "char(4)", "date", "timestamp", "timestamptz", "time", "timetz", "interval",
    "uuid", "bytea", "int4[]", "text[]", "numeric[]", "json", "jsonb",
]  # fmt: skip
# Types that have no equality, or whose equal values are written in several ways.
UNCOMPARED = ("json", "jsonb")
EQUAL = [kind for kind in TYPES if kind not in UNCOMPARED]
# Those of which equal values are written in one way: sets and DISTINCT keep any one of several.
SETTLED = [kind for kind in EQUAL if kind not in ("numeric", "numeric[]", "interval", "float4", "float8")]
PLACE = re.compile("{(" + "|".join(re.escape(kind) for kind in TYPES) + ")}")


class Form:
    """A template: text with places for expressions of types."""

    __slots__ = ("text", "pieces", "arguments")

    def __init__(self, text):
        parts = PLACE.split(text)
        self.text, self.pieces, self.arguments = text, parts[::2], parts[1::2]

    def fill(self, kind, values, least=None):
        parts = [self.pieces[0]]
        for value, piece in zip(values, self.pieces[1:], strict=True):
            parts += [value, piece]
        return Node(kind, parts, least)


def sections(name):
    """{title: lines} of a file."""
    found, lines = {}, None
    for line in (FOLDER / name).read_text().splitlines():
        if line.startswith("# ") or not line:
            continue
        if line.startswith("[") and line.endswith("]"):
            lines = found.setdefault(line[1:-1], [])
        else:
            lines.append(line)
    return found


VALUES = sections("values.txt")
FORMS = {title: [Form(line) for line in lines] for title, lines in sections("templates.txt").items()}


def titled(word):
    """[(form, type of the result)] of the sections that begin with the word."""
    return [
        (form, title.removeprefix(word)) for title, forms in FORMS.items() if title.startswith(word) for form in forms
    ]


AGGREGATES, WINDOWED = titled("aggregate "), titled("window ")
