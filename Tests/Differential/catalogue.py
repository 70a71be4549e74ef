"""Calls of everything that PostgreSQL's own catalogs list for the types of forms.py: functions, operators, casts."""

import re

from forms import TYPES, VALUES

# What tells of the server, the session or the clock, and what PostgreSQL keeps for its own use.
OWN = re.compile(
    r"^(pg_|has_|to_reg|current_|inet_|obj_|col_desc|shobj|txid|row_security|hash|bt|in_range|lo_|.*(_recv|_send|_out)$"
    r"|.*(_support|_sortsupport|larger|smaller|_accum|_combine|_serialize|_deserialize|_transfn|_finalfn|sel|joinsel)$"
    r"|.*(_hash|_hash_extended|_subdiff|to_tsvector|to_tsquery)$|int8(dec|inc)"
    r"|(gin|gist|brin|spg|ts|rank|dense|query_to|table_to|schema_to|database_to|cursor_to|xml|json.*_agg|set_config)"
    r"|.*(eq|ne|lt|le|gt|ge|cmp|in|typmodin|typmodout|xid|oid|cash|money)$|age$)"
)
FUNCTIONS = """SELECT p.proname, ARRAY(SELECT t::regtype::text FROM unnest(p.proargtypes) t) FROM pg_proc p
 WHERE pronamespace = 'pg_catalog'::regnamespace AND prokind = 'f' AND provolatile <> 'v' AND NOT proretset
   AND provariadic = 0 AND prorettype <> ALL ('{internal,cstring,trigger}'::regtype[])
   AND coalesce(obj_description(p.oid, 'pg_proc'), '') !~ '^(implementation of|I/O|aggregate|less-equal|internal)'
 ORDER BY p.oid"""
OPERATORS = """SELECT oprname, ARRAY[CASE WHEN oprleft <> 0 THEN oprleft::regtype::text END, oprright::regtype::text]
  FROM pg_operator ORDER BY oid"""
# The name that PostgreSQL gives to a type, and ours; what takes any type gets a few.
NAMES = {
    "smallint": "int2", "integer": "int4", "bigint": "int8", "real": "float4", "double precision": "float8",
    "boolean": "bool", "character varying": "varchar(8)", "character": "char(4)",
    "timestamp without time zone": "timestamp",
    "timestamp with time zone": "timestamptz", "time without time zone": "time", "time with time zone": "timetz",
    "integer[]": "int4[]", "anyarray": "text[]", "anyelement": "text", "anycompatiblearray": "int4[]",
    "anycompatible": "int4", "anynonarray": "date", '"any"': "timestamp",
}  # fmt: skip


def known(names):
    """Our names of the types, or None if one is none of ours."""
    found = [name and NAMES.get(name, name) for name in names]
    return found if all(name is None or name in TYPES for name in found) else None


def listed(connection):
    """Texts with `{type}` for each argument, those of functions, operators and casts alike often."""
    functions, operators = [], []
    for name, arguments in connection.execute(FUNCTIONS).fetchall():
        kinds = known(arguments)
        if kinds and not OWN.search(name):
            functions.append((f"{name}(" + ", ".join(["{}"] * len(kinds)) + ")", kinds))
    for name, (left, right) in connection.execute(OPERATORS).fetchall():
        kinds = known([left, right])
        if kinds:
            text = f"({{}} {name} {{}})" if left else f"({name} {{}})"
            operators.append((text, [kind for kind in kinds if kind]))
    casts = [(f"{{}}::{target}", [source]) for source in TYPES for target in TYPES]
    return functions, operators, casts


class Catalogue:
    def __init__(self, connection, random):
        self.random = random
        self.lists = listed(connection)

    def call(self):
        """The text of a query with one call on constants, NULL among them."""
        random = self.random
        text, kinds = random.choice(random.choice(self.lists))
        first, *pieces = text.split("{}")
        return f"SELECT {first}" + "".join(self.value(kind) + piece for kind, piece in zip(kinds, pieces, strict=True))

    def value(self, kind):
        random = self.random
        if random.random() < 0.05:
            return f"NULL::{kind}"
        pool = VALUES[kind]
        if random.random() < 0.4:
            pool = VALUES.get(f"{kind} extreme", pool)
        text = random.choice(pool)
        # What stands for a type that many others could be is told as what it is; a lone string is left open.
        if text.startswith("'") and random.random() < 0.1:
            return text
        return f"({text})::{kind}" if text[0] == "-" else f"{text}::{kind}"
