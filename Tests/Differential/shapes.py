"""Random queries of rarer shapes: sets of several arms, functions that give rows, GROUPING, WITH read twice, VALUES."""

from changes import Table
from forms import EQUAL, SETTLED
from nodes import Node

SETS = [" UNION ", " UNION ALL ", " INTERSECT ", " EXCEPT ", " INTERSECT ALL ", " EXCEPT ALL "]
# Functions that give rows: what is called, and the types of its columns.
ROWS = [
    ("generate_series(1, {int4} % 4)", ["int4"]), ("generate_series(5, 1, -2)", ["int4"]),
    ("generate_series('2024-01-30'::date, '2024-01-30'::date + abs({int4}) % 3, '1 day')", ["timestamptz"]),
    ("unnest({int4[]})", ["int4"]),
    ("generate_series('2024-02-28'::timestamp, '2024-03-01', '1 day' * (1 + abs({int4}) % 3))", ["timestamp"]),
    ("unnest({text[]})", ["text"]), ("unnest({int4[]}, {text[]})", ["int4", "text"]),
    ("regexp_split_to_table({text}, 'b')", ["text"]), ("string_to_table({text}, 'a', 'b')", ["text"]),
    ("jsonb_array_elements(jsonb_build_array({int4}, {text}))", ["jsonb"]),
    ("jsonb_array_elements_text(to_jsonb({int4[]}))", ["text"]),
    ("jsonb_object_keys('{\"a\": 1, \"b\": 2}')", ["text"]),
    ("jsonb_each(jsonb_build_object('k', {int4}, 'l', {text}))", ["text", "jsonb"]),
    ("jsonb_each_text(jsonb_build_object('k', {int4}, 'l', {text}))", ["text", "text"]),
    ("generate_subscripts({int4[]}, 1)", ["int4"]), ("generate_series(1.5, 3, 0.75)", ["numeric"]),
]  # fmt: skip


class Shapes:
    """A part of Queries."""

    def other_form(self):
        shapes = [self.arms, self.arms, self.giving_rows, self.giving_rows, self.grouping, self.twice, self.values]
        return self.random.choice([*shapes, self.ranged, self.natural, self.changing])()

    def arms(self):
        """A set of three arms, whose order of evaluation is told or not, in an order."""
        random = self.random
        kinds = [random.choice(SETTLED) for _ in range(random.randrange(1, 3))]
        one, other, third = (self.select(1, kinds, None)[0] for _ in range(3))
        first, second = random.choice(SETS), random.choice(SETS)
        if random.random() < 0.4:
            parts = ["(", one, first, other, ")", second, third]
        else:
            parts = [one, first, other, second, third]
        return Node("query", [*parts, self.order(kinds, True)]), True

    def rows(self, columns):
        """(node, types) of a function that gives rows."""
        random = self.random
        text, kinds = random.choice(ROWS)
        self.expressions.columns = columns
        pieces, parts = text.split("{"), []
        for piece in pieces:
            kind, brace, rest = piece.partition("}")
            if brace and kind in EQUAL:
                parts += [self.expressions.make(kind, 1), rest]
            else:
                parts.append(("{" if parts else "") + piece)
        self.expressions.columns = []
        return Node("rows", parts), kinds

    def giving_rows(self):
        random = self.random
        table = random.choice(self.tables)
        columns = [(f"r1.{name}", kind) for name, kind in table.columns]
        self.cost *= max(1, table.count) * 4
        call, kinds = self.rows(columns)
        if len(kinds) == 1 and random.random() < 0.4:
            return Node("query", ["SELECT r1.id, ", call, f" FROM {table.name} AS r1"]), False
        names = [f"x{place}" for place in range(len(kinds))]
        word = " WITH ORDINALITY" if random.random() < 0.4 else ""
        if word:
            names.append("o")
        found = [(f"f.{name}", kind) for name, kind in zip(names, [*kinds, "int8"])]
        join = random.choice([" CROSS JOIN LATERAL ", " LEFT JOIN LATERAL ", ", "])
        on = " ON true" if "LEFT" in join else ""
        self.expressions.columns = columns + found
        values = [Node("star", [text]) for text, _ in found] + [self.expressions.make(random.choice(EQUAL), 2)]
        source = [f" FROM {table.name} AS r1{join}", call, f"{word} AS f ({', '.join(names)}){on}"]
        where = self.where(1)
        self.expressions.columns = []
        return Node("query", ["SELECT r1.id, ", *self.targets(values, None), *source, where]), False

    def grouping(self):
        """Sets of groups, and which of them a row is of."""
        random = self.random
        source, columns = self.source(1)
        simple = [text for text, kind in columns if kind in SETTLED]
        keys = random.sample(simple, min(3, len(simple)))
        if len(keys) < 2:
            return Node("query", ["SELECT count(*) FROM ", source]), False
        one, other = keys[:2]
        sets = random.choice([
            f"ROLLUP ({', '.join(keys)})", f"CUBE ({one}, {other})", f"{one}, ROLLUP ({other})",
            f"GROUPING SETS (({one}), ({other}), ())", f"GROUPING SETS (({one}, {other}), ROLLUP ({one}))",
            f"CUBE ({one}), GROUPING SETS (({other}), ())",
        ])  # fmt: skip
        form, _ = random.choice(self.aggregates)
        value = self.aggregate(form, 1, columns)
        having = random.choice(["", "", f" HAVING GROUPING({one}) = 0", " HAVING count(*) > 1"])
        head = f"SELECT {one}, {other}, GROUPING({one}, {other}), GROUPING({other}), "
        return Node("query", [head, value, " FROM ", source, f" GROUP BY {sets}", Node("having", [having], "")]), False

    def twice(self):
        """A WITH query that is read twice, or by another."""
        random = self.random
        kinds = [random.choice(SETTLED) for _ in range(2)]
        body, _ = self.select(1, kinds, ["x", "y"])
        word = random.choice(["", "", " MATERIALIZED", " NOT MATERIALIZED"])
        join = random.choice(["JOIN", "LEFT JOIN", "FULL JOIN", "RIGHT JOIN"])
        if random.random() < 0.5:
            last = f"SELECT * FROM w AS a {join} w AS b ON a.x = b.x"
        else:
            self.tables.append(Table("v", [("x", kinds[0]), ("n", "int8")], 20))
            query, _ = self.query(1)
            self.tables.pop()
            last = Node("query", [", v AS (SELECT x, count(*) AS n FROM w GROUP BY x) ", query])
            return Node("query", [f"WITH w AS{word} (", body, ")", last]), False
        return Node("query", [f"WITH w AS{word} (", body, ") ", last]), False

    def values(self):
        random = self.random
        kinds = [random.choice(EQUAL) for _ in range(random.randrange(1, 4))]
        rows = []
        for place in range(random.randrange(1, 5)):
            cells = []
            for number, kind in enumerate(kinds):
                cells += [", " if number else "", self.expressions.make(kind, 1)]
            rows += [", " if place else "", "(", *cells, ")"]
        return Node("query", ["VALUES ", *rows, self.order(kinds, False)]), False

    def ranged(self):
        """Windows whose frames are told by values, and by names."""
        random = self.random
        table = random.choice(self.tables)
        self.expressions.columns = [(f"r1.{name}", kind) for name, kind in table.columns]
        frame = random.choice([
            "RANGE BETWEEN 1 PRECEDING AND 1 FOLLOWING", "RANGE BETWEEN 2 FOLLOWING AND 5 FOLLOWING",
            "RANGE BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING", "GROUPS BETWEEN 1 FOLLOWING AND 2 FOLLOWING",
            "RANGE BETWEEN 1 PRECEDING AND 1 FOLLOWING EXCLUDE GROUP", "RANGE CURRENT ROW", "GROUPS 2 PRECEDING",
            "RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW EXCLUDE TIES",
        ])  # fmt: skip
        way = random.choice(["", " DESC", " NULLS FIRST", " DESC NULLS LAST"])
        key = random.choice(["r1.i", "r1.id", "r1.i::numeric", "r1.id::int8"])
        calls = "count(*) OVER v, sum(r1.i) OVER v, min(r1.s) OVER v, rank() OVER w, max(r1.id) OVER (w)"
        first = self.expressions.make(random.choice(EQUAL), 1)
        where = self.where(1)
        windows = f" WINDOW w AS (ORDER BY {key}{way}), v AS (w {frame})"
        return Node("query", ["SELECT r1.id, ", first, f", {calls} FROM {table.name} AS r1", where, windows]), False

    def natural(self):
        """Columns that joins make one, all of them shown."""
        random = self.random
        one, other = random.choice(self.tables), random.choice(self.tables)
        join = random.choice(["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"])
        if random.random() < 0.4:
            fields = [f"SELECT id, i, s FROM {table.name}" for table in (one, other)]
            return Node("query", [f"SELECT * FROM ({fields[0]}) AS a NATURAL {join} ({fields[1]}) AS b"]), False
        using = random.choice(["id", "i", "id, i", "s"])
        shown = random.choice(["*", f"{using}, a.id, b.i", "a.*, b.s", f"{using}, count(*)"])
        group = f" GROUP BY {using}" if "count" in shown else ""
        self.cost *= max(1, one.count) * max(1, other.count)
        return Node(
            "query", [f"SELECT {shown} FROM {one.name} AS a {join} {other.name} AS b USING ({using}){group}"]
        ), False

    def changing(self):
        """Rows through several queries of rows: a subquery in each place of the list."""
        random = self.random
        source, columns = self.source(1)
        self.expressions.columns = columns
        values = [Node("int4", [columns[0][0]])]
        for kind in random.sample(["int8", "text", "numeric", "bool", "int4", "date"], 2):
            value = self.subquery(kind, 2)
            values.append(value or self.expressions.make(kind, 2))
        where = self.where(2)
        self.expressions.columns = []
        return Node("query", ["SELECT ", *self.targets(values, None), " FROM ", source, where]), False
