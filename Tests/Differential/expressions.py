"""Random expressions of every type. What comes out must not depend on the order of rows or of evaluation, since
PostgreSQL promises neither; so nothing over rows fails unless asked to (`daring`)."""

from forms import EQUAL, FORMS, TYPES, UNCOMPARED, VALUES
from nodes import Node, fill

# Of several arguments only some are computed: what fails in the others is nobody's promise.
LAZY = ("AND", "OR", "CASE", "coalesce", "nullif", "IN", "BETWEEN")


class Expressions:
    def __init__(self, random):
        self.random = random
        self.daring = False
        # Columns that may be read: [(text, type)].
        self.columns = []
        # Forms that are left out.
        self.absent = set()
        # Makes a subquery of one column of a type, correlated with the columns; None where there are none.
        self.subquery = None

    def probe(self, is_there):
        """Leaves out what is not there. Answers the texts of the forms that are."""
        for kind in TYPES:
            for form in FORMS.get(kind, []) + FORMS.get(f"{kind} daring", []):
                nulls = [f"NULL::{type}" for type in form.arguments]
                if not is_there(f"SELECT {form.fill(kind, nulls)}"):
                    self.absent.add(form.text)
        return self.absent

    def literal(self, kind):
        random = self.random
        # With constants that fail, PostgreSQL does or does not compute what a NULL makes needless.
        if random.random() < 0.08 and not self.daring:
            return Node(kind, [f"NULL::{kind}"], f"NULL::{kind}")
        pool = VALUES[kind]
        if self.daring and random.random() < 0.4:
            pool = VALUES.get(f"{kind} extreme", pool)
        text = random.choice(pool)
        if kind in ("int4", "bool") and not text.startswith(("-", "'")):
            return Node(kind, [text], text)
        return Node(kind, [f"({text})::{kind}" if text[0] == "-" else f"{text}::{kind}"])

    def leaf(self, kind):
        columns = [text for text, type in self.columns if type == kind]
        if columns and self.random.random() < 0.8:
            return Node(kind, [self.random.choice(columns)], f"NULL::{kind}")
        return self.literal(kind)

    def make(self, kind, depth):
        random = self.random
        if depth <= 0 or random.random() < 0.15:
            return self.leaf(kind)
        least = f"NULL::{kind}" if kind != "bool" else "true"
        choice = random.random()
        if choice < 0.12 and not self.daring:
            return self.lazy(kind, depth, least)
        if choice < 0.2 and self.subquery and not self.daring:
            made = self.subquery(kind, depth)
            if made:
                return made
        if kind == "bool" and choice < 0.6:
            return self.comparison(depth)
        forms = FORMS.get(kind, []) + (FORMS.get(f"{kind} daring", []) if self.daring else [])
        forms = [form for form in forms if form.text not in self.absent]
        if self.daring:
            forms = [form for form in forms if not any(word in form.text for word in LAZY)]
        if not forms:
            return self.leaf(kind)
        form = random.choice(forms)
        return form.fill(kind, [self.make(type, depth - 1) for type in form.arguments], least)

    def lazy(self, kind, depth, least):
        random = self.random
        form = random.randrange(6)
        if form == 0:
            arguments = [self.make("bool", depth - 1), self.make(kind, depth - 1), self.make(kind, depth - 1)]
            return fill(kind, "CASE WHEN {} THEN {} ELSE {} END", arguments, least)
        if form == 1:
            arguments = [self.make("int4", depth - 1), self.make(kind, depth - 1), self.make(kind, depth - 1)]
            return fill(kind, "CASE {} WHEN 1 THEN {} WHEN 2 THEN {} END", arguments, least)
        if form == 2 or kind == "json":
            return fill(kind, "coalesce({}, {})", [self.make(kind, depth - 1), self.make(kind, depth - 1)], least)
        if form == 3 and kind != "jsonb":
            return fill(kind, "nullif({}, {})", [self.make(kind, depth - 1), self.make(kind, depth - 1)], least)
        name = random.choice(["greatest", "least"])
        return fill(kind, name + "({}, {})", [self.make(kind, depth - 1), self.make(kind, depth - 1)], least)

    def comparison(self, depth):
        random = self.random
        kind = random.choice(EQUAL)
        known = [type for _, type in self.columns if type not in UNCOMPARED]
        if known and random.random() < 0.7:
            kind = random.choice(known)
        one, other = self.make(kind, depth - 1), self.make(kind, depth - 1)
        form = random.random()
        if form < 0.6:
            operator = random.choice(["=", "<>", "<", "<=", ">", ">="])
            collation = ' COLLATE "C"' if kind in ("text", "varchar(8)") and random.random() < 0.1 else ""
            return fill("bool", "({} " + operator + " {}" + collation + ")", [one, other], "true")
        if form < 0.7:
            return fill("bool", "({} IS " + random.choice(["", "NOT "]) + "NULL)", [one], "true")
        if form < 0.8:
            return fill("bool", "({} IS " + random.choice(["", "NOT "]) + "DISTINCT FROM {})", [one, other], "true")
        third = self.make(kind, depth - 1)
        if form < 0.9:
            word = random.choice(["= ANY", "<> ALL", "< ANY"])
            return fill("bool", "({} " + word + " (ARRAY[{}, {}]))", [one, other, third], "true")
        word = random.choice(["IN", "NOT IN"])
        return fill("bool", "({} " + word + " ({}, {}))", [one, other, third], "true")
