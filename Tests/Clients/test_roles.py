"""Roles: who may log in, what they may do over SQL, and that rights are asked for at once after a change."""

import psycopg
import pytest
from redis.exceptions import AuthenticationError, NoPermissionError

from conftest import Cluster, wait_until

DENIED = psycopg.errors.InsufficientPrivilege


@pytest.fixture(scope="module")
def cluster():
    with Cluster("--shards", "2") as running:
        yield running


def sql(cluster, user="orbit", password=None, **more):
    options = {"user": user, "password": password or cluster.password, "dbname": "orbit", "autocommit": True, **more}
    return psycopg.connect(host="127.0.0.1", port=5432 + cluster.offset, connect_timeout=60, **options)


@pytest.fixture
def roles(cluster):
    """The administrator, and two roles with tables of their own to be."""
    with sql(cluster) as admin:
        admin.execute("CREATE ROLE staff")
        admin.execute("CREATE ROLE ada LOGIN PASSWORD 'one' IN ROLE staff")
        admin.execute("CREATE ROLE bob LOGIN PASSWORD 'two' NOINHERIT")
        admin.execute("CREATE TABLE things (id int PRIMARY KEY, v text)")
        admin.execute("INSERT INTO things VALUES (1, 'a'), (2, 'b')")
        yield admin
        admin.execute("DROP SCHEMA IF EXISTS own CASCADE")
        admin.execute("DROP TABLE IF EXISTS things CASCADE")
        admin.execute("DROP ROLE IF EXISTS staff, ada, bob")


def test_who_may_log_in(cluster, roles):
    with sql(cluster, "ada", "one") as connection:
        assert connection.execute("SELECT current_user, session_user").fetchone() == ("ada", "ada")
        assert connection.execute("SHOW is_superuser").fetchone() == ("off",)
    for user, password in [("ada", "two"), ("nobody", "one")]:
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            sql(cluster, user, password)
    with pytest.raises(psycopg.OperationalError):
        sql(cluster, "staff", "one")
    roles.execute("ALTER ROLE ada PASSWORD 'three'")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        sql(cluster, "ada", "one")
    sql(cluster, "ada", "three").close()
    roles.execute("ALTER ROLE ada VALID UNTIL '2020-01-01'")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        sql(cluster, "ada", "three")
    roles.execute("ALTER ROLE ada NOLOGIN VALID UNTIL 'infinity'")
    with pytest.raises(psycopg.OperationalError):
        sql(cluster, "ada", "three")
    roles.execute("BEGIN")
    roles.execute("CREATE ROLE gone LOGIN PASSWORD 'x'")
    roles.execute("ROLLBACK")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        sql(cluster, "gone", "x")


def test_rights_on_tables_are_asked_for(cluster, roles):
    statements = {
        "SELECT": "SELECT * FROM things", "INSERT": "INSERT INTO things VALUES (3, 'c')",
        "UPDATE": "UPDATE things SET v = 'x'", "DELETE": "DELETE FROM things",
    }
    with sql(cluster, "ada", "one") as ada, sql(cluster, "bob", "two") as bob:
        for statement in [*statements.values(), "SELECT 1 FROM things WHERE id = 1", "TABLE redis.strings"]:
            with pytest.raises(DENIED, match="permission denied for table (things|strings)"):
                ada.execute(statement)
        for right, statement in statements.items():
            roles.execute(f"GRANT {right} ON things TO staff")
            ada.execute(statement)
            with pytest.raises(DENIED):
                bob.execute(statement)
            roles.execute(f"REVOKE {right} ON things FROM staff")
            with pytest.raises(DENIED):
                ada.execute(statement)
        roles.execute("INSERT INTO things VALUES (1, 'a')")
        roles.execute("GRANT UPDATE ON things TO PUBLIC")
        bob.execute("UPDATE things SET v = 'y'")
        for statement in ["UPDATE things SET v = 'y' WHERE id = 1", "UPDATE things SET v = v || 'z'"]:
            with pytest.raises(DENIED):  # It reads.
                bob.execute(statement)
        with pytest.raises(DENIED):
            bob.execute("SELECT id FROM things FOR UPDATE")


def test_rights_of_prepared_statements_on_one_record_follow_the_catalog(cluster, roles):
    roles.execute("GRANT staff TO bob")
    roles.execute("ALTER ROLE bob INHERIT")
    roles.execute("GRANT SELECT, UPDATE ON things TO staff")
    with sql(cluster, "bob", "two") as bob:
        for number in range(10):  # psycopg prepares a statement on its sixth use.
            assert bob.execute("SELECT v FROM things WHERE id = %s", (1,)).fetchone() is not None
            assert bob.execute("UPDATE things SET v = %s WHERE id = %s", (str(number), 2)).rowcount == 1
        roles.execute("REVOKE staff FROM bob")
        for _ in range(3):
            with pytest.raises(DENIED):
                bob.execute("SELECT v FROM things WHERE id = %s", (1,))
            with pytest.raises(DENIED):
                bob.execute("UPDATE things SET v = %s WHERE id = %s", ("lost", 2))
        roles.execute("GRANT SELECT ON things TO bob")
        assert bob.execute("SELECT v FROM things WHERE id = %s", (2,)).fetchone() == ("9",)
        bob.execute("BEGIN")
        assert bob.execute("SELECT v FROM things WHERE id = %s", (2,)).fetchone() == ("9",)
        with pytest.raises(DENIED):
            bob.execute("DELETE FROM things WHERE id = 2")
        bob.execute("ROLLBACK")


def test_views_read_in_the_name_of_their_owners(cluster, roles):
    roles.execute("CREATE VIEW shown AS SELECT id FROM things")
    roles.execute("GRANT SELECT ON shown TO ada")
    with sql(cluster, "ada", "one") as ada:
        assert ada.execute("SELECT count(*) FROM shown").fetchone() == (2,)
        with pytest.raises(DENIED, match="permission denied for table things"):
            ada.execute("SELECT count(*) FROM shown, things")
        roles.execute("ALTER VIEW shown OWNER TO bob")
        with pytest.raises(DENIED, match="permission denied for table things"):
            ada.execute("SELECT count(*) FROM shown")


def test_schemas_sequences_and_owners(cluster, roles):
    roles.execute("CREATE SCHEMA own")
    with sql(cluster, "ada", "one") as ada, sql(cluster, "bob", "two") as bob:
        for statement in ["CREATE TABLE mine (id int)", "CREATE TABLE own.mine (id int)"]:
            with pytest.raises(DENIED, match="permission denied for schema"):
                ada.execute(statement)
        roles.execute("GRANT USAGE, CREATE ON SCHEMA own TO ada")
        ada.execute("CREATE TABLE own.mine (id serial PRIMARY KEY, v text)")
        assert ada.execute("INSERT INTO own.mine (v) VALUES ('a') RETURNING id").fetchone() == (1,)
        ada.execute("CREATE INDEX ON own.mine (v)")
        ada.execute("GRANT SELECT, INSERT ON own.mine TO bob")
        with pytest.raises(DENIED, match="permission denied for schema own"):
            bob.execute("SELECT * FROM own.mine")
        roles.execute("GRANT USAGE ON SCHEMA own TO bob")
        assert bob.execute("SELECT * FROM own.mine").fetchall() == [(1, "a")]
        with pytest.raises(DENIED, match="permission denied for sequence mine_id_seq"):
            bob.execute("INSERT INTO own.mine (v) VALUES ('b')")
        ada.execute("GRANT USAGE ON SEQUENCE own.mine_id_seq TO bob")
        bob.execute("INSERT INTO own.mine (v) VALUES ('b')")
        for statement in [
            "ALTER TABLE own.mine ADD COLUMN x int", "DROP TABLE own.mine", "CREATE INDEX ON own.mine (v)",
            "TRUNCATE own.mine", "ALTER TABLE own.mine OWNER TO bob",
        ]:
            with pytest.raises(DENIED, match="must be owner of table mine|permission denied for table mine"):
                bob.execute(statement)
        for statement, why in [
            ("CREATE ROLE more", "create role"), ("ALTER ROLE ada SUPERUSER", "denied|superuser"),
            ("DROP ROLE ada", "denied|depend"), ("GRANT staff TO bob", "admin option"),
            ("CREATE SCHEMA more", "permission denied for database"), ("DROP SCHEMA own CASCADE", "must be owner"),
        ]:
            with pytest.raises((DENIED, psycopg.errors.DependentObjectsStillExist), match=why):
                bob.execute(statement)
        bob.execute("ALTER ROLE bob PASSWORD 'new'")
        ada.execute("DROP TABLE own.mine")
    sql(cluster, "bob", "new").close()


def test_copy_and_cursors_ask_for_rights(cluster, roles):
    with sql(cluster, "ada", "one") as ada:
        for statement in ["COPY things TO STDOUT", "COPY (SELECT * FROM things) TO STDOUT", "COPY things FROM STDIN"]:
            with pytest.raises(DENIED), ada.cursor().copy(statement) as copy:
                if "FROM" in statement:
                    copy.write_row((7, "lost"))
                else:
                    list(copy.rows())
        roles.execute("GRANT INSERT ON things TO ada")
        with ada.cursor().copy("COPY things FROM STDIN") as copy:
            copy.write_row((7, "kept"))
        with pytest.raises(DENIED), ada.cursor().copy("COPY things TO STDOUT") as copy:
            list(copy.rows())
        ada.execute("BEGIN")
        with pytest.raises(DENIED):
            ada.execute("DECLARE c CURSOR FOR SELECT * FROM things")
        ada.execute("ROLLBACK")
        ada.execute("PREPARE p AS INSERT INTO things VALUES ($1, 'p')")
        ada.execute("EXECUTE p (8)")
        roles.execute("REVOKE INSERT ON things FROM ada")
        with pytest.raises(DENIED):
            ada.execute("EXECUTE p (9)")
        with pytest.raises(DENIED), ada.cursor().copy("COPY things FROM STDIN") as copy:
            copy.write_row((9, "lost"))
    assert roles.execute("SELECT id FROM things ORDER BY id").fetchall() == [(1,), (2,), (7,), (8,)]


def test_who_is_no_role_any_more_has_no_rights(cluster, roles):
    """Neither has who gets the name."""
    roles.execute("CREATE ROLE root LOGIN SUPERUSER PASSWORD 'three'")
    with sql(cluster, "root", "three") as root:
        for _ in range(8):
            assert root.execute("SELECT v FROM things WHERE id = %s", (1,)).fetchone() == ("a",)
        roles.execute("DROP ROLE root")
        for again in range(2):
            for statement in ["SELECT v FROM things WHERE id = %s", "DELETE FROM things WHERE id = %s"]:
                with pytest.raises(DENIED):
                    root.execute(statement, (1,))
            with pytest.raises(psycopg.errors.UndefinedObject, match='role "root" does not exist'):
                root.execute("CREATE TABLE mine (id int)")
            if not again:
                roles.execute("CREATE ROLE root SUPERUSER")
    roles.execute("DROP ROLE root")


def test_names_of_users_are_not_those_of_roles(cluster, roles):
    with cluster.client() as client:
        client.execute_command("ACL", "SETUSER", "carl", "on", ">pass", "~*", "+@all")
    roles.execute("ALTER ROLE ada CREATEROLE")
    try:
        with sql(cluster, "ada", "one") as ada:
            for name in ["carl", "orbit"]:
                with pytest.raises(psycopg.errors.DuplicateObject):
                    ada.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'stolen'")
            for statement in ["ALTER ROLE orbit PASSWORD 'stolen'", "DROP ROLE orbit", "GRANT orbit TO ada"]:
                with pytest.raises(psycopg.Error):
                    ada.execute(statement)
        with pytest.raises(psycopg.OperationalError):
            sql(cluster, "carl", "stolen")
    finally:
        with cluster.client() as client:
            client.execute_command("ACL", "DELUSER", "carl")


def test_set_role(cluster, roles):
    roles.execute("GRANT SELECT ON things TO staff")
    roles.execute("GRANT staff TO bob")
    with sql(cluster, "bob", "two") as bob:
        query = "SELECT v FROM things WHERE id = %s"
        with pytest.raises(DENIED):
            bob.execute(query, (1,))
        bob.execute("SET ROLE staff")
        for _ in range(8):
            assert bob.execute(query, (1,)).fetchone() == ("a",)
        roles.execute("REVOKE staff FROM bob")
        with pytest.raises(DENIED, match='permission denied to set role "staff"'):
            bob.execute(query, (1,))
        bob.execute("DISCARD ALL")
        for name in ["staff", "ada", "orbit"]:
            with pytest.raises(DENIED):
                bob.execute(f"SET ROLE {name}")
            with pytest.raises(DENIED):
                bob.execute(f"SET SESSION AUTHORIZATION {name}")
        assert bob.execute("SELECT current_user, session_user").fetchone() == ("bob", "bob")
        with pytest.raises(DENIED):
            bob.execute(query, (1,))


def test_roles_in_redis(cluster, roles):
    roles.execute("CREATE ROLE root LOGIN SUPERUSER PASSWORD 'three'")
    try:
        with cluster.client(username="root", password="three") as client:
            assert client.set("k", "v") and client.get("k") == b"v"
            wait_until(lambda: any(line.startswith("user root ") for line in client.acl_list()), "the role in ACL LIST")
            assert client.delete("k") == 1
        with cluster.client(username="ada", password="one") as client:
            with pytest.raises(NoPermissionError):
                client.get("k")
        with pytest.raises(AuthenticationError):
            cluster.client(username="ada", password="two").ping()
    finally:
        roles.execute("DROP ROLE root")
