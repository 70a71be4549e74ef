"""Random tables with rules, and changes of their rows."""

from forms import EQUAL, NUMBERS, TYPES, VALUES
from nodes import Node

# What rows of tables get an extreme value of, now and then: nothing that makes safe expressions fail.
LOUD = (
    *NUMBERS, "timestamp", "timestamptz", "timetz", "time", "date", "interval", "text", "int4[]", "text[]", "numeric[]",
)  # fmt: skip
QUIET = [kind for kind in TYPES if kind not in LOUD]


class Table:
    def __init__(self, name, columns, count):
        self.name, self.columns, self.count = name, columns, count


class Changes:
    """Tables of one round, and statements that change them. A part of Queries."""

    def schema(self):
        """Statements that make the tables of one round and fill them."""
        random = self.random
        self.tables = []
        for number in range(3):
            others = random.sample(TYPES, random.randrange(3, 7))
            columns = [("id", "int4"), ("i", "int4"), ("s", "text")]
            columns += [(f"c{place}", kind) for place, kind in enumerate(others)]
            count = random.choice([0, 3, 12, 12, 24])
            table = Table(f"t{number}", columns, count)
            self.tables.append(table)
            parts = [f"{name} {kind}" + (" PRIMARY KEY" if name == "id" else "") for name, kind in columns]
            rules = random.sample(["i BETWEEN -2 AND 2147483647", "s <> 'none'", "length(s) < 90"], random.randrange(3))
            parts += [f"CHECK ({rule})" for rule in rules]
            yield f"CREATE TABLE {table.name} ({', '.join(parts)})"
            if count:
                rows = ", ".join(f"({', '.join(self.row(table, key))})" for key in range(1, count + 1))
                yield f"INSERT INTO {table.name} VALUES {rows}"
            yield from self.rules(table)

    def rules(self, table):
        """Statements that may be refused: rows may break what they ask."""
        random = self.random
        others = [name for name, kind in table.columns[3:] if kind in EQUAL]
        if random.random() < 0.3:
            yield f"CREATE INDEX {table.name}_i ON {table.name} (i{', s' if random.random() < 0.5 else ''})"
        if others and random.random() < 0.3:
            name = random.choice(others)
            yield f"CREATE {random.choice(['', 'UNIQUE '])}INDEX {table.name}_{name} ON {table.name} ({name})"
        if random.random() < 0.2:
            yield f"ALTER TABLE {table.name} ALTER i SET NOT NULL"
        if random.random() < 0.2:
            yield f"ALTER TABLE {table.name} ALTER s SET DEFAULT 'fallen ' || 'back'"

    def row(self, table, key):
        values = [str(key)]
        for _, kind in table.columns[1:]:
            pool = VALUES[kind]
            if self.random.random() < 0.04 and kind in QUIET:
                pool = VALUES.get(f"{kind} extreme", pool)
            values.append("NULL" if self.random.random() < 0.15 else self.random.choice(pool))
        return values

    def drop(self):
        return [f"DROP TABLE {table.name}" for table in self.tables]

    def change(self):
        """(node, its table) of an INSERT, UPDATE or DELETE."""
        while True:
            self.begin()
            made = self.some_change()
            if self.cost <= 200:
                return made

    def some_change(self):
        random = self.random
        table = random.choice(self.tables)
        columns = [(f"{table.name}.{name}", kind) for name, kind in table.columns]
        form = random.random()
        if form < 0.45:
            return self.insertion(table, columns), table
        self.expressions.columns = columns
        other = random.choice([each for each in self.tables if each is not table])
        joined = random.random() < 0.3
        if joined:
            self.expressions.columns = columns + [(f"o.{name}", kind) for name, kind in other.columns]
        test = self.expressions.make("bool", 2)
        link = f"{table.name}.i = o.id AND " if joined else ""
        condition = Node("where", [f" WHERE {link}", test])
        if form < 0.8:
            parts = [f"UPDATE {table.name} SET ", *self.some_assignments(table)]
            parts += [f" FROM {other.name} AS o" if joined else "", condition]
        else:
            parts = [f"DELETE FROM {table.name}", f" USING {other.name} AS o" if joined else "", condition]
        return Node("change", [*parts, self.returning(columns)]), table

    def some_assignments(self, table):
        """Those of an UPDATE: of several columns at once, too."""
        random = self.random
        if random.random() > 0.15:
            return self.assignments(table)
        columns = random.sample(table.columns[1:], 2)
        names = ", ".join(name for name, _ in columns)
        one, other = (self.expressions.make(kind, 2) for _, kind in columns)
        word = random.choice(["(", "ROW (", "(SELECT "])
        return [f"({names}) = {word}", one, ", ", other, ")"]

    def assignments(self, table):
        random = self.random
        parts = []
        for place, (name, kind) in enumerate(random.sample(table.columns[1:], random.randrange(1, 3))):
            value = Node(kind, ["DEFAULT"]) if random.random() < 0.05 else self.expressions.make(kind, 2)
            parts += [", " if place else "", f"{name} = ", value]
        return parts

    def returning(self, columns):
        random = self.random
        if random.random() < 0.4:
            return ""
        self.expressions.columns = columns
        subquery, self.expressions.subquery = self.expressions.subquery, None
        values = ["*"] if random.random() < 0.4 else [self.expressions.make(random.choice(TYPES), 2) for _ in range(2)]
        self.expressions.subquery = subquery
        if values == ["*"]:
            values = [Node("star", [", ".join(text for text, _ in columns)])]
        return Node("returning", [" RETURNING ", *self.targets(values, None)], "")

    def insertion(self, table, columns):
        random = self.random
        form = random.random()
        names = ""
        if form < 0.7:
            rows = [self.row(table, random.randrange(1, 60)) for _ in range(random.choice([1, 1, 2, 5]))]
            if random.random() < 0.2:
                kept = random.randrange(1, len(table.columns))
                names = f"({', '.join(name for name, _ in table.columns[:kept])}) "
                is_default = kept > 1 and random.random() < 0.3
                rows = [[*row[: kept - 1], "DEFAULT" if is_default else row[kept - 1]] for row in rows]
            source = Node("rows", ["VALUES ", ", ".join(f"({', '.join(row)})" for row in rows)])
        else:
            # Keys that nobody has, in one order.
            other = random.choice(self.tables)
            self.expressions.columns = [(f"o.{name}", kind) for name, kind in other.columns]
            base = random.randrange(100, 100000)
            values = [Node("int4", [f"o.id + {base}"])]
            values += [self.expressions.make(kind, 2) for _, kind in table.columns[1:]]
            source = Node("rows", ["SELECT ", *self.targets(values, None), f" FROM {other.name} AS o"])
        conflict = self.conflict(table, columns, is_ordered=form < 0.7)
        return Node("change", [f"INSERT INTO {table.name} {names}", source, conflict, self.returning(columns)])

    def conflict(self, table, columns, is_ordered):
        random = self.random
        choice = random.random()
        if choice < 0.3:
            # Which of several rows stays is open where their order is.
            is_any = choice < 0.1 and is_ordered
            return " ON CONFLICT DO NOTHING" if is_any else " ON CONFLICT (id) DO NOTHING"
        if choice > 0.6:
            return ""
        self.expressions.columns = columns + [(f"excluded.{name}", kind) for name, kind in table.columns]
        subquery, self.expressions.subquery = self.expressions.subquery, None
        parts = [" ON CONFLICT (id) DO UPDATE SET ", *self.assignments(table)]
        if random.random() < 0.4:
            parts += [Node("where", [" WHERE ", self.expressions.make("bool", 2)], "")]
        self.expressions.subquery = subquery
        return Node("conflict", parts)
