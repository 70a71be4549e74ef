#!/usr/bin/env python3
"""Runs the same random statements on PostgreSQL 15 and on Orbit, and compares what they answer: rows, names and types
of columns, SQLSTATE, words and fields of errors, what a statement says that it did, and the tables afterwards.

    differential.py --postgres 'host=/tmp …' --orbit 'host=127.0.0.1 …' [--queries 5000] [--seed 7]

What differs and no rule of accepted.yaml covers is made as small as it still differs, and printed with both answers.
"""

import argparse
import collections
import random
import sys
import time

from accepted import rules
from catalogue import Catalogue
from forms import TYPES
from nodes import shrink
from queries import Queries
from sides import Side, difference, shown

# What ends a round, since the tables may differ from there on.
APART = ("refused", "error expected", "missing", "kind", "tag", "rows", "broken", "slow")
FAULTS = ("state", "words", "refused", "error expected")
# SERIALIZABLE may be refused with 40001 for nothing that one session does.
LEVELS = ["", " ISOLATION LEVEL READ COMMITTED", " ISOLATION LEVEL REPEATABLE READ"]


class Run:
    def __init__(self, postgres, orbit, seed, show=print):
        self.postgres, self.orbit = Side(postgres), Side(orbit)
        self.random = random.Random(int(seed))
        self.queries = Queries(self.random)
        self.catalogue = Catalogue(self.postgres.connection, self.random)
        self.rules = rules()
        self.counts = collections.Counter()
        self.missing = collections.Counter()
        # [(kind, statement, PostgreSQL's answer, Orbit's)] of what no rule covers.
        self.found = []
        self.show = show
        # The statements of the transaction that is open, or was until just now.
        self.history = []

    def both(self, text):
        return self.postgres.run(text), self.orbit.run(text)

    def is_accepted(self, kind, statement, theirs, ours):
        for rule in self.rules:
            if rule.matches(kind, statement, theirs, ours):
                rule.count += 1
                return True
        return False

    def judge(self, node, theirs, ours, is_ordered=False, again=False):
        """The kind of difference, after it was counted and shown; `again` says that the statement may be repeated."""
        kind = difference(theirs, ours, is_ordered)
        if kind is None:
            self.counts["error alike" if theirs[0] == "error" else "alike"] += 1
            return None
        if kind == "slow":  # It tells of the machine, too: counted, and nothing more.
            self.counts[kind] += 1
            return kind
        if kind == "missing":
            self.missing[ours[2]] += 1
        if self.is_accepted(kind, node, theirs, ours):
            self.counts[f"{kind}, listed"] += 1
            return kind
        if again:
            node, theirs, ours = self.smallest(node, kind, is_ordered, theirs, ours)
            if kind in FAULTS and self.is_other_fault(node, theirs, ours):
                kind = "other fault"
            if self.is_accepted(kind, node, theirs, ours):
                self.counts[f"{kind}, listed"] += 1
                return kind
        self.tell(kind, node, theirs, ours)
        return kind

    def tell(self, kind, node, theirs, ours):
        self.counts[kind] += 1
        self.found.append((kind, str(node), theirs, ours))
        text = "".join(f"{statement};\n" for statement in [*self.history, node])
        self.show(f"-- {kind}\n{text}   PostgreSQL: {shown(theirs)}\n   Orbit:      {shown(ours)}\n", flush=True)

    def smallest(self, node, kind, is_ordered, theirs, ours):
        def is_different(candidate):
            return difference(*self.both(candidate), is_ordered) == kind

        if kind == "broken" or isinstance(node, str):
            return node, theirs, ours
        node = shrink(node, is_different)
        return node, *self.both(node)

    def is_other_fault(self, node, theirs, ours):
        """Whether what either side tells is a fault of some part, told alike by both if they are asked for that alone:
        so they compute parts in another order, or not at all if their values are not needed."""
        if isinstance(node, str):
            return False
        told = set()
        for text in {str(part) for part in node.below() if part.kind in TYPES}:
            one, other = self.both(f"SELECT {text}")
            if one[0] == "error" and difference(one, other) in (None, "fields"):
                told.add(one[1:3])
        return all(answer[1:3] in told for answer in (theirs, ours) if answer[0] == "error")

    def query(self, again=True):
        # What of several faults is told can be asked only where a statement may be repeated.
        if again and self.random.random() < 0.2:
            node, is_ordered = self.catalogue.call(), False
        else:
            node, is_ordered = self.queries.statement(is_daring=again)
        return self.judge(node, *self.both(node), is_ordered, again)

    def change(self, in_transaction=False):
        """False if the tables may not be alike any more."""
        node, table = self.queries.change()
        theirs, ours = self.both(node)
        kind = self.judge(node, theirs, ours)
        if in_transaction:
            self.history.append(str(node))
            return kind not in APART
        return self.is_alike(table, node if kind is None else None)

    def is_alike(self, table, node=None):
        """Whether a table has the same rows in both; told if a statement is given that did not tell of it."""
        theirs, ours = self.both(f"SELECT * FROM {table.name} ORDER BY id")
        kind = difference(theirs, ours)
        if kind and node:
            self.tell("contents", node, theirs, ours)
        return kind is None

    def transaction(self):
        """Some statements between BEGIN and COMMIT or ROLLBACK, with savepoints. False if the tables differ."""
        random = self.random
        self.history = []
        is_fine = self.control(f"BEGIN{random.choice(LEVELS)}")
        names = []
        for _ in range(random.randrange(2, 9)):
            if not is_fine:
                break
            form = random.random()
            if form < 0.45:
                is_fine = self.change(in_transaction=True)
            elif form < 0.65:
                is_fine = self.query(again=False) not in APART
            elif form < 0.8 or not names:
                names.append(random.choice(["one", "two"]))
                is_fine = self.control(f"SAVEPOINT {names[-1]}")
            else:
                word = random.choice(["ROLLBACK TO", "ROLLBACK TO", "RELEASE"])
                is_fine = self.control(f"{word} SAVEPOINT {random.choice(names + ['none'])}")
        end = random.choice(["COMMIT", "COMMIT", "ROLLBACK"])
        if is_fine:
            is_fine = self.control(end)
        self.both("ROLLBACK")
        are_alike = [self.is_alike(table, f"SELECT * FROM {table.name}") for table in self.queries.tables]
        self.history = []
        return all(are_alike) and is_fine

    def control(self, statement):
        kind = self.judge(statement, *self.both(statement))
        self.history.append(statement)
        return kind not in APART

    def round(self, queries):
        """Tables, and statements over them. Answers how many were run."""
        before = self.judged
        for statement in self.queries.schema():
            if self.judge(statement, *self.both(statement)) in APART:
                self.clear()
                return 1
        while self.judged - before < queries:
            form = self.random.random()
            if form < 0.2:
                if not self.change():
                    break
            elif form < 0.24:
                if not self.transaction():
                    break
            else:
                self.query()
        self.clear()
        return self.judged - before

    @property
    def judged(self):
        return sum(self.counts.values())

    def clear(self):
        self.both("ROLLBACK")
        for number in range(3):
            self.both(f"DROP TABLE IF EXISTS t{number}")

    def run(self, count):
        """Runs about so many statements. Answers the differences that no rule covers."""
        self.clear()
        absent = self.queries.probe(lambda text: difference(*self.both(text)) != "missing")
        self.show(f"-- {len(absent)} forms are not there: {'; '.join(sorted(absent))}\n", flush=True)
        while self.judged < count:
            self.round(min(60, count - self.judged))
        return self.found

    def summary(self):
        lines = [f"{self.judged} statements: {dict(sorted(self.counts.items()))}"]
        lines += [f"  listed {rule.count:5} {rule.title}" for rule in self.rules if rule.count]
        lines += [f"  missing {count:5} {words}" for words, count in self.missing.most_common(60)]
        return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--postgres", required=True)
    parser.add_argument("--orbit", required=True)
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    started = time.monotonic()
    run = Run(options.postgres, options.orbit, options.seed)
    run.run(options.queries)
    print(f"seed {options.seed}: {run.summary()}\n{time.monotonic() - started:.0f} s")
    for name, side in (("PostgreSQL", run.postgres), ("Orbit", run.orbit)):
        print(f"longest on {name}: {side.longest[0]:.2f} s: {side.longest[1][:2000]}")
    return 1 if run.found else 0


if __name__ == "__main__":
    sys.exit(main())
