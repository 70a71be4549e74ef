"""Random queries over the tables of a round."""

from changes import Changes, Table
from expressions import Expressions
from forms import AGGREGATES, EQUAL, SETTLED, TYPES, WINDOWED
from nodes import Node, fill
from shapes import Shapes

JOINS = ["JOIN", "JOIN", "LEFT JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN", "CROSS JOIN", ","]
SETS = [" UNION ", " UNION ALL ", " INTERSECT ", " EXCEPT ", " INTERSECT ALL ", " EXCEPT ALL "]
LIMITS = [
    " LIMIT 3", " LIMIT 5 OFFSET 1", " OFFSET 2", " LIMIT 0", " LIMIT 1", " FETCH FIRST 2 ROWS WITH TIES",
    " LIMIT 1000000000000 OFFSET 1",
]  # fmt: skip
FRAMES = [
    "", "", " ROWS UNBOUNDED PRECEDING", " ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING",
    " ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING", " GROUPS BETWEEN 1 PRECEDING AND CURRENT ROW",
    " RANGE BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING EXCLUDE CURRENT ROW",
]  # fmt: skip
# Larger statements are not asked: debug builds run them too.
COST = 20_000


class Queries(Changes, Shapes):
    def __init__(self, random):
        self.random = random
        self.expressions = Expressions(random)
        self.expressions.subquery = self.subquery
        self.tables = []
        self.aliases = 0
        # How many rows a statement makes at most, were all its tables joined without a condition.
        self.cost = 1
        self.aggregates = list(AGGREGATES)

    def probe(self, is_there):
        """Leaves out functions that are not there; answers them."""
        absent = set(self.expressions.probe(is_there))
        for entry in AGGREGATES:
            form, kind = entry
            if not is_there(f"SELECT {form.fill(kind, [f'NULL::{type}' for type in form.arguments])}"):
                self.aggregates.remove(entry)
                absent.add(form.text)
        return absent

    # FROM

    def alias(self):
        self.aliases += 1
        return f"r{self.aliases}"

    def relation(self, depth):
        """(node, columns) of something in FROM."""
        random = self.random
        form, alias = random.random(), self.alias()
        if depth <= 0 or form < 0.7:
            table = random.choice(self.tables)
            self.cost *= max(1, table.count)
            columns = [(f"{alias}.{name}", kind) for name, kind in table.columns]
            return Node("relation", [f"{table.name} AS {alias}"]), columns
        if form < 0.88:
            outside = self.expressions.columns
            self.expressions.columns = []
            query, kinds = self.query(depth - 1, names=[f"x{place}" for place in range(random.randrange(1, 4))])
            self.expressions.columns = outside
            columns = [(f"{alias}.x{place}", kind) for place, kind in enumerate(kinds)]
            return Node("relation", ["(", query, f") AS {alias}"]), columns
        if form < 0.95:
            kinds = [random.choice(["int4", "text", "numeric"]) for _ in range(2)]
            rows = [[self.expressions.literal(kind) for kind in kinds] for _ in range(3)]
            listed = ", ".join(f"({one}, {other})" for one, other in rows)
            columns = [(f"{alias}.x", kinds[0]), (f"{alias}.y", kinds[1])]
            return Node("relation", [f"(VALUES {listed}) AS {alias} (x, y)"]), columns
        return Node("relation", [f"generate_series(1, {random.randrange(5)}) AS {alias} (n)"]), [(f"{alias}.n", "int4")]

    def source(self, depth):
        """FROM: (node, columns)."""
        random = self.random
        node, columns = self.relation(depth)
        for _ in range(random.choice([0, 0, 1, 1, 2])):
            kind = random.choice(JOINS)
            if kind in ("LEFT JOIN", "CROSS JOIN") and random.random() < 0.3:
                outside = self.expressions.columns
                self.expressions.columns = outside + columns
                alias = self.alias()
                query, kinds = self.query(depth - 1, names=["x0", "x1"])
                self.expressions.columns = outside
                other = Node("lateral", ["LATERAL (", query, f") AS {alias}"])
                more = [(f"{alias}.x{place}", each) for place, each in enumerate(kinds)]
            else:
                other, more = self.relation(depth - 1)
            if kind in ("CROSS JOIN", ","):
                node = Node("relation", [node, f" {kind} ", other])
                columns = columns + more
                continue
            if random.random() < 0.06 and not str(kind).startswith(","):
                node = Node("relation", [node, f" {kind} ", other, random.choice([" USING (id)", " USING (i)"])])
                columns = columns + more
                continue
            condition = self.join_condition(columns, more, kind, depth)
            columns = columns + more
            node = Node("relation", [node, f" {kind} ", other, " ON ", condition])
        return node, columns

    def join_condition(self, left, right, kind, depth):
        random = self.random
        pairs = [(one, other) for one, mine in left for other, theirs in right if mine == theirs and mine in EQUAL]
        if not pairs or (random.random() < 0.1 and kind != "FULL JOIN"):
            return Node("bool", ["true"], "true")
        one, other = random.choice(pairs)
        condition = Node("bool", [f"{one} = {other}"], "true")
        if random.random() < 0.3 and kind != "FULL JOIN":
            outside, self.expressions.columns = self.expressions.columns, self.expressions.columns + left + right
            subquery, self.expressions.subquery = self.expressions.subquery, None
            condition = fill("bool", "({} AND {})", [condition, self.expressions.make("bool", 2)], "true")
            self.expressions.columns, self.expressions.subquery = outside, subquery
        return condition

    # Queries

    def subquery(self, kind, depth):
        """An expression of that type with a query in it."""
        random = self.random
        form = random.random()
        if kind == "bool" and form < 0.7:
            if form < 0.3:
                query, _ = self.query(depth - 1, count=1)
                return Node("bool", [random.choice(["EXISTS (", "NOT EXISTS ("]), query, ")"], "true")
            inner = random.choice(["int4", "text", "numeric", "int8"])
            query, _ = self.query(depth - 1, kinds=[inner])
            word = random.choice([" IN (", " NOT IN (", " = ANY (", " <> ALL (", " < ALL (", " >= ANY ("])
            return Node("bool", ["(", self.expressions.make(inner, depth - 1), word, query, "))"], "true")
        if kind == "int4[]" and form < 0.5:
            query, _ = self.query(depth - 1, kinds=["int4"], ordered=True)
            return Node(kind, ["ARRAY(", query, ")"], "NULL::int4[]")
        found = [entry for entry in self.aggregates if entry[1] == kind]
        if not found:
            return None
        outside = self.expressions.columns
        source, columns = self.source(depth - 1)
        self.expressions.columns = columns + outside
        # Now and then of outer columns: PostgreSQL moves such an aggregate outwards.
        own = columns if random.random() < 0.95 else columns + outside
        value = self.aggregate(random.choice(found)[0], depth - 1, own)
        where = self.where(depth - 1)
        self.expressions.columns = outside
        return Node(kind, ["(SELECT ", value, " FROM ", source, where, ")"], f"NULL::{kind}")

    def where(self, depth):
        if self.random.random() < 0.4:
            return ""
        return Node("where", [" WHERE ", self.expressions.make("bool", depth)], "")

    def aggregate(self, form, depth, columns):
        subquery, self.expressions.subquery = self.expressions.subquery, None
        outside, self.expressions.columns = self.expressions.columns, columns[:]
        argument = ""
        if form.arguments:
            kind = form.arguments[0]
            own = [text for text, type in columns if type == kind]
            argument = str(self.expressions.make(kind, min(depth, 2)))
            if own and self.random.random() < 0.7 or not any(text in argument for text, _ in columns):
                argument = self.random.choice(own) if own else argument
        made = form.fill("aggregate", [argument] * len(form.arguments))
        if self.random.random() < 0.15 and "FILTER" not in form.text:
            condition = self.expressions.make("bool", 2)
            made = Node("aggregate", [made, Node("filter", [" FILTER (WHERE ", condition, ")"], "")])
        self.expressions.subquery, self.expressions.columns = subquery, outside
        return made

    def query(self, depth, kinds=None, names=None, count=None, ordered=False):
        """(node, types of its columns) of any query."""
        random = self.random
        count = count or (len(names) if names else random.randrange(1, 5))
        if random.random() < 0.12 and depth > 0:
            kinds = kinds or [random.choice(SETTLED) for _ in range(count)]
            left, _ = self.select(depth - 1, kinds, names)
            right, _ = self.select(depth - 1, kinds, None)
            node = Node("query", ["(", left, ")", random.choice(SETS), "(", right, ")"])
        elif random.random() < 0.35 and kinds is None:
            node, kinds = self.grouped(depth, names, count)
        else:
            node, kinds = self.select(depth, kinds or [random.choice(TYPES) for _ in range(count)], names)
        if ordered or (random.random() < 0.15 and all(kind in EQUAL for kind in kinds)):
            node = Node("query", [node, self.order(kinds, random.random() < 0.6)])
        return node, kinds

    def order(self, kinds, limited):
        random = self.random
        ways, nulls = ["", "", " DESC", " ASC"], ["", "", " NULLS FIRST", " NULLS LAST"]
        places = random.sample(range(len(kinds)), len(kinds))
        text = " ORDER BY " + ", ".join(f"{place + 1}{random.choice(ways)}{random.choice(nulls)}" for place in places)
        return Node("order", [text + (random.choice(LIMITS) if limited else "")], "")

    def targets(self, values, names):
        parts = []
        for place, value in enumerate(values):
            parts += [", " if place else "", value] + ([f" AS {names[place]}"] if names else [])
        return parts

    def select(self, depth, kinds, names):
        random = self.random
        outside = self.expressions.columns
        source, columns = self.source(depth)
        self.expressions.columns = columns + (outside if random.random() < 0.7 else [])
        values = [self.expressions.make(kind, min(depth, 3)) for kind in kinds]
        where = self.where(depth)
        distinct = "DISTINCT " if random.random() < 0.1 and all(kind in SETTLED for kind in kinds) else ""
        self.expressions.columns = outside
        parts = ["SELECT ", Node("distinct", [distinct], ""), *self.targets(values, names), " FROM ", source, where]
        return Node("query", parts), kinds

    def grouped(self, depth, names, count):
        random = self.random
        outside = self.expressions.columns
        source, columns = self.source(depth)
        self.expressions.columns = columns + outside
        where = self.where(depth)
        simple = [(text, kind) for text, kind in columns if kind in SETTLED]
        keys = random.sample(simple, min(random.randrange(3), len(simple)))
        values, kinds = [], []
        self.expressions.columns = keys
        subquery, self.expressions.subquery = self.expressions.subquery, None
        for _ in range(count):
            if keys and random.random() < 0.5:
                text, kind = random.choice(keys)
                if random.random() < 0.3:
                    kind = random.choice(["text", "bool", "int4"])
                    values.append(self.expressions.make(kind, 2))
                else:
                    values.append(Node(kind, [text]))
            else:
                form, kind = random.choice(self.aggregates)
                self.expressions.columns = columns + outside
                values.append(self.aggregate(form, depth, columns))
                self.expressions.columns = keys
            kinds.append(kind)
        parts = ["SELECT ", *self.targets(values, names), " FROM ", source, where]
        if keys:
            listed = ", ".join(text for text, _ in keys)
            if random.random() < 0.15:
                listed = random.choice(["ROLLUP (", "CUBE (", "GROUPING SETS ((), "]) + listed + ")"
            parts.append(f" GROUP BY {listed}")
        else:
            parts.append("" if any(str(value.kind) == "aggregate" for value in values) else " GROUP BY ()")
        if random.random() < 0.3:
            few = ("int8", "bool", "text", "int4")
            form, kind = random.choice([entry for entry in self.aggregates if entry[1] in few])
            self.expressions.columns = columns + outside
            value = self.aggregate(form, depth, columns)
            self.expressions.columns = keys
            other = self.expressions.make(kind, 1)
            test = Node("bool", [value, random.choice([" > ", " IS DISTINCT FROM ", " <= "]), other], "true")
            parts.append(Node("having", [" HAVING ", test], ""))
        self.expressions.columns, self.expressions.subquery = outside, subquery
        return Node("query", parts), kinds

    def begin(self):
        self.aliases, self.cost = 0, 1
        self.expressions.columns, self.expressions.daring = [], False

    def statement(self, is_daring=True):
        """(node, whether its rows have an order) of one query to be compared; `is_daring` if it may fail."""
        while True:
            self.begin()
            made = self.some_statement(is_daring)
            if self.cost <= COST:
                return made

    def some_statement(self, is_daring):
        random = self.random
        form = random.random()
        if form < 0.25:
            self.expressions.daring = is_daring and random.random() < 0.8
            kinds = [random.choice(TYPES) for _ in range(random.choice([1, 1, 2]))]
            values = [self.expressions.make(kind, random.randrange(1, 4)) for kind in kinds]
            return Node("query", ["SELECT ", *self.targets(values, None)]), False
        if form < 0.33:
            return self.distinct_on()
        if form < 0.41:
            return self.common()
        if form < 0.51:
            return self.windowed()
        if form < 0.55:
            return self.recursive()
        if form < 0.65:
            return self.other_form()
        node, kinds = self.query(random.choice([1, 2, 2, 3]))
        has_order = any(part.kind == "order" for part in node.parts if isinstance(part, Node))
        if random.random() < 0.25 and all(kind in EQUAL for kind in kinds) and not has_order:
            return Node("query", [node, self.order(kinds, random.random() < 0.7)]), True
        return node, False

    def distinct_on(self):
        source, columns = self.source(1)
        simple = [entry for entry in columns if entry[1] in SETTLED]
        if not simple:
            return Node("query", ["SELECT count(*) FROM ", source]), False
        chosen = self.random.sample(simple, min(len(simple), self.random.randrange(1, 4)))
        listed = ", ".join(text for text, _ in chosen)
        self.expressions.columns = columns
        where = self.where(2)
        self.expressions.columns = []
        parts = [f"SELECT DISTINCT ON ({chosen[0][0]}) {listed} FROM ", source, where, f" ORDER BY {listed}"]
        return Node("query", parts), True

    def common(self):
        random = self.random
        kinds = [random.choice(EQUAL) for _ in range(2)]
        body, _ = self.select(1, kinds, ["x", "y"])
        self.tables.append(Table("w", list(zip(["x", "y"], kinds, strict=True)), 20))
        node, _ = self.query(2)
        self.tables.pop()
        word = random.choice(["", "", " MATERIALIZED", " NOT MATERIALIZED"])
        return Node("query", [f"WITH w AS{word} (", body, ") ", node]), False

    def windowed(self):
        """Calls over windows, in an order of the rows that leaves nothing open."""
        random = self.random
        table = random.choice(self.tables)
        columns = [(f"r1.{name}", kind) for name, kind in table.columns]
        keys, source = "r1.id", f"{table.name} AS r1"
        if random.random() < 0.3:
            other = random.choice(self.tables)
            columns += [(f"r2.{name}", kind) for name, kind in other.columns]
            source += f" {random.choice(['JOIN', 'LEFT JOIN'])} {other.name} AS r2 ON r1.i = r2.id"
        self.expressions.columns = columns
        simple = [text for text, kind in columns if kind in EQUAL]
        values = ["r1.id"]
        for _ in range(random.randrange(1, 4)):
            form, kind = random.choice(WINDOWED)
            arguments = [self.expressions.make(type, 1) for type in form.arguments]
            parts = [form.fill("window call", arguments), " OVER ("]
            if random.random() < 0.5:
                parts.append(Node("partition", [f"PARTITION BY {random.choice(simple)} "], ""))
            way = random.choice(["", " DESC", " DESC NULLS LAST"])
            parts += [f"ORDER BY {random.choice(simple)}{way}, {keys}", random.choice(FRAMES), ")"]
            values.append(Node(kind, parts))
        return Node("query", ["SELECT ", *self.targets(values, None), f" FROM {source}", self.where(1)]), False

    def recursive(self):
        """A walk along i to id, or a count with something that grows."""
        random = self.random
        table = random.choice(self.tables)
        kind = random.choice(["int4", "text", "numeric", "date"])
        self.expressions.columns = [(f"{table.name}.{name}", type) for name, type in table.columns]
        first = self.expressions.make(kind, 1)
        if random.random() < 0.5:
            start = Node("query", ["SELECT id, i, ", first, f" FROM {table.name}", self.where(1)])
            step = f"SELECT {table.name}.id, {table.name}.i, w.x FROM {table.name} JOIN w ON w.i = {table.name}.id"
            word = " UNION "
        else:
            start = Node("query", ["SELECT id, 0, ", first, f" FROM {table.name}", self.where(1)])
            self.expressions.columns = [("w.id", "int4"), ("w.i", "int4"), ("w.x", kind)]
            grown = fill(kind, "CAST({} AS " + kind + ")", [self.expressions.make(kind, 1)])
            step = Node("query", ["SELECT w.id, w.i + 1, ", grown, f" FROM w WHERE w.i < {random.randrange(1, 5)}"])
            word = random.choice([" UNION ", " UNION ALL "])
        self.expressions.columns = []
        self.tables.append(Table("w", [("id", "int4"), ("i", "int4"), ("x", kind)], 40))
        query = "SELECT * FROM w" if random.random() < 0.6 else self.query(1)[0]
        self.tables.pop()
        return Node("query", ["WITH RECURSIVE w (id, i, x) AS (", start, word, step, ") ", query]), False
