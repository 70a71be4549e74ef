"""Differences that are known and justified: the rules of accepted.yaml, and the part of docs/sql-differences.md that is
made of them (`accepted.py --write` writes it anew)."""

import pathlib
import re
import sys

import yaml

FOLDER = pathlib.Path(__file__).parent
DOCUMENT = FOLDER.parents[1] / "docs" / "sql-differences.md"
BEGIN, END = "<!-- from Tests/Differential/accepted.yaml -->\n", "<!-- end -->\n"
MATCHED = ("statement", "postgres", "orbit")


class Rule:
    """A kind of difference (or several), and patterns of the statement and of both answers, found anywhere in them."""

    def __init__(self, entry):
        self.title, self.reason = entry["title"], entry["reason"]
        self.kinds = entry["kind"].split(", ")
        self.patterns = {name: re.compile(entry[name], re.DOTALL) for name in MATCHED if name in entry}
        self.count = 0

    def matches(self, kind, statement, theirs, ours):
        texts = {"statement": str(statement), "postgres": told(theirs), "orbit": told(ours)}
        return kind in self.kinds and all(pattern.search(texts[name]) for name, pattern in self.patterns.items())


def told(answer):
    """An answer as the patterns see it: state, words and fields of an error, or rows."""
    if answer[0] == "error":
        return f"{answer[1]} {answer[2]} {answer[3]}"
    return f"{answer[0]} {answer[-1]}"


def rules():
    return [Rule(entry) for entry in yaml.safe_load((FOLDER / "accepted.yaml").read_text())]


def document():
    """docs/sql-differences.md as it must be."""
    text = DOCUMENT.read_text()
    head, rest = text.split(BEGIN)
    _, tail = rest.split(END)
    lines = []
    for title, kinds in (("Not supported", True), ("Different", False)):
        lines += [f"\n### {title}\n\n| what | why |\n|---|---|\n"]
        lines += [f"| {rule.title} | {rule.reason} |\n" for rule in rules() if ("missing" in rule.kinds) == kinds]
    return head + BEGIN + "".join(lines) + "\n" + END + tail


if __name__ == "__main__":
    if "--write" in sys.argv:
        DOCUMENT.write_text(document())
    sys.exit(0 if document() == DOCUMENT.read_text() else 1)
