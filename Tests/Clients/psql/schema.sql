CREATE SCHEMA shop;
CREATE TABLE customers (id serial PRIMARY KEY, name varchar(40) NOT NULL, email text UNIQUE, born date,
    score numeric(10,2) DEFAULT 0.00, vip boolean DEFAULT false, note text DEFAULT 'none', CHECK (score >= 0));
CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, customer integer NOT NULL,
    placed timestamptz DEFAULT now(), amount double precision, tags text[], data jsonb, code char(3),
    CONSTRAINT amount_positive CHECK (amount > 0 AND amount < 1000000), CONSTRAINT once UNIQUE (customer, placed));
CREATE TABLE shop.items (a integer, b text, qty smallint DEFAULT 1 NOT NULL, u uuid, t timestamp(3), i interval,
    raw bytea, PRIMARY KEY (a, b));
CREATE TABLE plain (x integer, y text);
CREATE TABLE "Odd Name" ("Mixed Case" integer PRIMARY KEY, "select" text DEFAULT 'it''s');
CREATE TABLE checks (a int, b text, v varchar(10), n numeric(8,2), d date, f real, flag bool, big bigint, s smallint,
    c char(4), ar int[], ts timestamptz,
    CHECK (v IN ('a','b')), CHECK (a IN (1,2,3)), CHECK (b LIKE 'a%'), CHECK (NOT flag), CHECK (flag IS NOT TRUE),
    CHECK (a BETWEEN 1 AND 10), CHECK (length(v) > 3 OR n*2+1 > -5), CHECK (b IS DISTINCT FROM 'q'),
    CHECK (coalesce(a, big, 0) > 1), CHECK (c = 'ab'), CHECK (d > '2020-01-01' AND ts < now()), CHECK (a = ANY (ar)),
    CHECK ((a + big) * 2 > s - (a - 3)), CHECK (upper(b) || 'x' = v), CHECK (a <> 5 AND NOT (b = 'x' OR b = 'y')),
    CHECK (n > 5::int8), CHECK (big > 3000000000), CHECK (a IS NULL OR b IS NOT NULL AND a > 1), CHECK (f > 1.5),
    CHECK (nullif(a,1) = greatest(a, s)), CHECK (ar[1] > 0), CHECK (ar = '{1,2}'), CHECK (CAST(b AS int) = a),
    CHECK (b NOT IN ('a','b')), CHECK (a % 2 = 0), CHECK (v = 'it''s'), CHECK (-a < 1), CHECK (a::text = b),
    CHECK (v::varchar(3) = 'abc'), CHECK (n = 5), CHECK (a = 5.5),
    CHECK (CASE WHEN a > 0 THEN b = 'x' ELSE v IS NULL END));
CREATE TABLE defaults (a int DEFAULT -5, b bigint DEFAULT 5, c numeric(8,2) DEFAULT 5, d numeric DEFAULT 1.50,
    e varchar(5) DEFAULT 'x', f char(3) DEFAULT 'ab', g text DEFAULT 'a' || 'b', h date DEFAULT '2020-1-1',
    i timestamptz DEFAULT current_timestamp, j timestamp(3) DEFAULT now(), k bool DEFAULT true, l float8 DEFAULT 1.5,
    m real DEFAULT 2, n smallint DEFAULT 3, o int[] DEFAULT '{1,2}', p text[] DEFAULT array['a','b'],
    q uuid DEFAULT gen_random_uuid(), r json DEFAULT '{}', s jsonb DEFAULT '{"a":1}', t interval DEFAULT '1 day',
    u bytea DEFAULT '\x01', w text DEFAULT current_user, x int DEFAULT 1+2, z bigint DEFAULT 3000000000,
    aa time DEFAULT '10:00', cc numeric DEFAULT -1, dd date DEFAULT current_date, ee varchar DEFAULT upper('x'));
CREATE SEQUENCE numbers START 10 INCREMENT 5 MAXVALUE 1000 CYCLE;
CREATE ROLE psql_staff;
CREATE ROLE psql_ada LOGIN CREATEDB VALID UNTIL '2100-01-01 00:00:00+00' IN ROLE psql_staff;
CREATE ROLE "psql Odd" SUPERUSER NOINHERIT CREATEROLE REPLICATION BYPASSRLS;
GRANT SELECT, INSERT ON customers TO psql_staff;
GRANT UPDATE ON customers TO psql_ada WITH GRANT OPTION;
GRANT SELECT ON "Odd Name" TO PUBLIC, "psql Odd";
GRANT USAGE ON SEQUENCE numbers TO psql_staff;
GRANT USAGE ON SCHEMA shop TO psql_staff;
REVOKE ALL ON checks FROM orbit;
