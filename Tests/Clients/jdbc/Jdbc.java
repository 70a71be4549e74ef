import java.io.StringReader;
import java.io.StringWriter;
import java.math.BigDecimal;
import java.sql.Array;
import java.sql.Connection;
import java.sql.DatabaseMetaData;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.ResultSetMetaData;
import java.sql.SQLException;
import java.sql.Savepoint;
import java.sql.Statement;
import java.sql.Types;
import java.time.LocalDate;
import java.time.LocalDateTime;
import java.time.OffsetDateTime;
import java.util.Arrays;
import java.util.Properties;
import java.util.UUID;
import org.postgresql.PGConnection;
import org.postgresql.PGResultSetMetaData;
import org.postgresql.copy.CopyManager;

/** What programs do with the JDBC driver of PostgreSQL; prints a line for each part that is as it must be. */
public final class Jdbc {
    private static String url;
    private static Properties properties;
    private static String only;

    private interface Part {
        void run(Connection connection) throws Exception;
    }

    public static void main(String[] arguments) throws Exception {
        url = arguments[0];
        properties = new Properties();
        properties.setProperty("user", "orbit");
        properties.setProperty("password", arguments[1]);
        only = arguments.length > 2 ? arguments[2] : null;
        part("connect", Jdbc::connect);
        part("prepared", Jdbc::prepared);
        part("batch", Jdbc::batch);
        part("transactions", Jdbc::transactions);
        part("types", Jdbc::types);
        part("fetch size", Jdbc::fetchSize);
        part("generated keys", Jdbc::generatedKeys);
        part("metadata", Jdbc::metadata);
        part("words", Jdbc::words);
        part("row metadata", Jdbc::rowMetadata);
        part("updatable rows", Jdbc::updatableRows);
        part("copy", Jdbc::copy);
        part("cancel", Jdbc::cancel);
    }

    private static void part(String name, Part part) {
        if (only != null && !only.equals(name)) return;
        try (Connection connection = DriverManager.getConnection(url, properties)) {
            part.run(connection);
            System.out.println("ok " + name);
        } catch (Throwable failure) {
            System.out.println("failed " + name + ": " + failure);
        }
    }

    private static void same(Object expected, Object found) {
        boolean isSame =
            expected instanceof byte[] bytes ? Arrays.equals(bytes, (byte[]) found) : expected.equals(found);
        if (!isSame) throw new AssertionError("expected " + expected + ", found " + found);
    }

    private static void execute(Connection connection, String text) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            statement.execute(text);
        }
    }

    private static Object value(Connection connection, String query) throws SQLException {
        try (Statement statement = connection.createStatement(); ResultSet rows = statement.executeQuery(query)) {
            rows.next();
            return rows.getObject(1);
        }
    }

    private static void connect(Connection connection) throws Exception {
        same("PostgreSQL", connection.getMetaData().getDatabaseProductName());
        same(15, connection.getMetaData().getDatabaseMajorVersion());
        same(true, connection.isValid(5));
        execute(connection, "CREATE TABLE numbers (id int PRIMARY KEY, name text)");
    }

    /** The driver has a statement prepared by the server when it is used for the fifth time. */
    private static void prepared(Connection connection) throws Exception {
        try (PreparedStatement insert = connection.prepareStatement("INSERT INTO numbers VALUES (?, ?)")) {
            for (int number = 0; number < 12; number++) {
                insert.setInt(1, number);
                insert.setString(2, "name " + number);
                same(1, insert.executeUpdate());
            }
        }
        try (PreparedStatement select = connection.prepareStatement("SELECT name FROM numbers WHERE id = ?")) {
            for (int number = 0; number < 12; number++) {
                select.setInt(1, number);
                ResultSet rows = select.executeQuery();
                same(true, rows.next());
                same("name " + number, rows.getString("name"));
                same(false, rows.next());
            }
            same(1, select.getParameterMetaData().getParameterCount());
        }
    }

    private static void batch(Connection connection) throws Exception {
        try (PreparedStatement insert = connection.prepareStatement("INSERT INTO numbers VALUES (?, ?)")) {
            for (int number = 100; number < 400; number++) {
                insert.setInt(1, number);
                insert.setNull(2, Types.VARCHAR);
                insert.addBatch();
            }
            same(300, Arrays.stream(insert.executeBatch()).sum());
        }
        same(300L, value(connection, "SELECT count(*) FROM numbers WHERE name IS NULL"));
    }

    private static void transactions(Connection connection) throws Exception {
        connection.setAutoCommit(false);
        connection.setTransactionIsolation(Connection.TRANSACTION_REPEATABLE_READ);
        execute(connection, "INSERT INTO numbers VALUES (1000, 'a')");
        Savepoint savepoint = connection.setSavepoint("s");
        try {
            execute(connection, "INSERT INTO numbers VALUES (1000, 'b')");
            throw new AssertionError("a key was inserted twice");
        } catch (SQLException error) {
            same("23505", error.getSQLState());
        }
        connection.rollback(savepoint);
        execute(connection, "INSERT INTO numbers VALUES (1001, 'c')");
        connection.commit();
        execute(connection, "DELETE FROM numbers");
        connection.rollback();
        connection.setAutoCommit(true);
        same(2L, value(connection, "SELECT count(*) FROM numbers WHERE id >= 1000"));
    }

    private static void types(Connection connection) throws Exception {
        execute(connection, "CREATE TABLE kinds (id int PRIMARY KEY, a boolean, b smallint, c bigint, d real,"
            + " e double precision, f numeric(10,2), g text, h bytea, i uuid, j date, k timestamp, l timestamptz,"
            + " m int[])");
        UUID uuid = UUID.fromString("00112233-4455-6677-8899-aabbccddeeff");
        OffsetDateTime moment = OffsetDateTime.parse("2024-02-29T12:34:56.789Z");
        for (int round = 0; round < 7; round++) { // In text first; in binary once the server has prepared it.
            try (PreparedStatement insert = connection.prepareStatement(
                "INSERT INTO kinds VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")) {
                Object[] values = {round, true, (short) -3, 1L << 40, 1.5f, -2.25, new BigDecimal("12.34"), "déjà",
                    new byte[] {0, 1, -1}, uuid, LocalDate.of(2024, 2, 29), LocalDateTime.of(2024, 2, 29, 1, 2, 3),
                    moment};
                for (int index = 0; index < values.length; index++) insert.setObject(index + 1, values[index]);
                insert.setArray(14, connection.createArrayOf("int4", new Integer[] {1, null, 3}));
                same(1, insert.executeUpdate());
            }
        }
        try (PreparedStatement select = connection.prepareStatement("SELECT * FROM kinds WHERE id = ?")) {
            for (int round = 0; round < 7; round++) {
                select.setInt(1, round);
                ResultSet rows = select.executeQuery();
                rows.next();
                same(round, rows.getObject(1));
                same(true, rows.getObject(2));
                same(-3, rows.getInt(3));
                same(1L << 40, rows.getObject(4));
                same(1.5f, rows.getObject(5));
                same(-2.25, rows.getObject(6));
                same(new BigDecimal("12.34"), rows.getObject(7));
                same("déjà", rows.getObject(8));
                same(new byte[] {0, 1, -1}, rows.getBytes(9));
                same(uuid, rows.getObject(10));
                same(LocalDate.of(2024, 2, 29), rows.getObject(11, LocalDate.class));
                same(LocalDateTime.of(2024, 2, 29, 1, 2, 3), rows.getObject(12, LocalDateTime.class));
                same(moment.toInstant(), rows.getObject(13, OffsetDateTime.class).toInstant());
                Array array = rows.getArray(14);
                same(Arrays.asList(1, null, 3), Arrays.asList((Integer[]) array.getArray()));
            }
        }
    }

    /** Rows come in portions: the portal is suspended between them. */
    private static void fetchSize(Connection connection) throws Exception {
        connection.setAutoCommit(false);
        try (Statement statement = connection.createStatement()) {
            statement.setFetchSize(50);
            ResultSet rows = statement.executeQuery("SELECT id FROM numbers ORDER BY id");
            int count = 0;
            while (rows.next()) count++;
            same(314, count);
        }
        connection.commit();
    }

    private static void generatedKeys(Connection connection) throws Exception {
        execute(connection, "CREATE TABLE keyed (id serial PRIMARY KEY, name text)");
        String insert = "INSERT INTO keyed (name) VALUES (?)";
        try (PreparedStatement statement = connection.prepareStatement(insert, Statement.RETURN_GENERATED_KEYS)) {
            statement.setString(1, "a");
            same(1, statement.executeUpdate());
            ResultSet keys = statement.getGeneratedKeys();
            same(true, keys.next());
            same(1, keys.getInt("id"));
            for (String name : new String[] {"b", "c", "d"}) {
                statement.setString(1, name);
                statement.addBatch();
            }
            same(3, Arrays.stream(statement.executeBatch()).sum());
            keys = statement.getGeneratedKeys();
            int count = 0;
            while (keys.next()) same(2 + count++, keys.getInt(1));
            same(3, count);
        }
    }

    /** The columns of each row, with "|" between. */
    private static String rows(ResultSet rows, String... columns) throws SQLException {
        StringBuilder text = new StringBuilder();
        while (rows.next()) {
            for (String column : columns) text.append(rows.getString(column)).append('|');
            text.append('\n');
        }
        return text.toString();
    }

    /** What PostgreSQL 15 says of the same tables. */
    private static void metadata(Connection connection) throws Exception {
        execute(connection, "CREATE TABLE books (shelf int, place int, title varchar(40) NOT NULL, price numeric(8,2)"
            + " DEFAULT 1.50, PRIMARY KEY (shelf, place))");
        execute(connection, "CREATE UNIQUE INDEX books_title ON books (title)");
        execute(connection, "CREATE INDEX books_price ON books (price, title)");
        execute(connection, "CREATE VIEW cheap AS SELECT title FROM books WHERE price < 5");
        DatabaseMetaData metadata = connection.getMetaData();
        same("books|TABLE|\ncheap|VIEW|\n", rows(metadata.getTables(null, "public", "%", new String[] {"TABLE", "VIEW"}),
            "TABLE_NAME", "TABLE_TYPE").replaceAll("(copied|keyed|kinds|numbers)\\|TABLE\\|\n", ""));
        same("shelf|4|int4|10|0|NO|null|1|\nplace|4|int4|10|0|NO|null|2|\n"
            + "title|12|varchar|40|0|NO|null|3|\nprice|2|numeric|8|2|YES|1.50|4|\n",
            rows(metadata.getColumns(null, "public", "books", "%"), "COLUMN_NAME", "DATA_TYPE", "TYPE_NAME",
                "COLUMN_SIZE", "DECIMAL_DIGITS", "IS_NULLABLE", "COLUMN_DEF", "ORDINAL_POSITION"));
        same("shelf|1|books_pkey|\nplace|2|books_pkey|\n",
            rows(metadata.getPrimaryKeys(null, "public", "books"), "COLUMN_NAME", "KEY_SEQ", "PK_NAME"));
        same("f|books_pkey|1|shelf|A|\nf|books_pkey|2|place|A|\nf|books_title|1|title|A|\n"
            + "t|books_price|1|price|A|\nt|books_price|2|title|A|\n",
            rows(metadata.getIndexInfo(null, "public", "books", false, true), "NON_UNIQUE", "INDEX_NAME",
                "ORDINAL_POSITION", "COLUMN_NAME", "ASC_OR_DESC"));
        same("information_schema|\npg_catalog|\npublic|\n", rows(metadata.getSchemas(), "TABLE_SCHEM").replace("redis|\n", ""));
        same("orbit|\n", rows(metadata.getCatalogs(), "TABLE_CAT").replace("postgres|\n", ""));
        String types = rows(metadata.getTypeInfo(), "TYPE_NAME", "DATA_TYPE");
        for (String type : new String[] {"bool|-7|", "int4|4|", "int8|-5|", "text|12|", "numeric|2|", "timestamptz|93|",
            "uuid|1111|", "bytea|-2|", "_int4|2003|", "bpchar|1|", "date|91|", "float8|8|"}) {
            same(true, types.contains("\n" + type + "\n") || types.startsWith(type + "\n"));
        }
        same("", rows(metadata.getImportedKeys(null, "public", "books"), "FK_NAME"));
        same("", rows(metadata.getExportedKeys(null, "public", "books"), "FK_NAME"));
        same("shelf|\nplace|\n",
            rows(metadata.getBestRowIdentifier(null, "public", "books", DatabaseMetaData.bestRowSession, false),
                "COLUMN_NAME"));
        same(false, metadata.getProcedures(null, "public", "%").next());
        same(true, metadata.getFunctions(null, "pg_catalog", "lower").next());
        same("TABLE|\n", rows(metadata.getTableTypes(), "TABLE_TYPE").replaceAll("(?m)^(?!TABLE\\|).*\n", ""));
        metadata.getVersionColumns(null, "public", "books").close();
        metadata.getColumnPrivileges(null, "public", "books", "%").close();
        metadata.getTablePrivileges(null, "public", "books").close();
        metadata.getUDTs(null, "public", "%", null).close();
        metadata.getClientInfoProperties().close();
        same(63, metadata.getMaxTableNameLength());
    }

    private static void words(Connection connection) throws Exception {
        DatabaseMetaData metadata = connection.getMetaData();
        same(true, metadata.getSQLKeywords().contains("abort"));
        same(true, metadata.getNumericFunctions().contains("abs"));
        same("\"", metadata.getIdentifierQuoteString());
        same("orbit", connection.getCatalog());
        same("public", connection.getSchema());
    }

    private static void rowMetadata(Connection connection) throws Exception {
        try (PreparedStatement select = connection.prepareStatement("SELECT title AS t, price, 1 + 1 FROM books")) {
            ResultSetMetaData columns = select.getMetaData();
            same(3, columns.getColumnCount());
            same("t", columns.getColumnLabel(1));
            same("books", columns.getTableName(1));
            same(ResultSetMetaData.columnNoNulls, columns.isNullable(1));
            same(ResultSetMetaData.columnNullable, columns.isNullable(2));
            same(40, columns.getPrecision(1));
            same(2, columns.getScale(2));
            same(Types.NUMERIC, columns.getColumnType(2));
            same("int4", columns.getColumnTypeName(3));
            same("title", columns.unwrap(PGResultSetMetaData.class).getBaseColumnName(1));
            same(false, columns.isAutoIncrement(1));
        }
    }

    /** The driver looks up the primary key, and writes statements by it. */
    private static void updatableRows(Connection connection) throws Exception {
        execute(connection, "INSERT INTO books VALUES (1, 1, 'a', 2), (1, 2, 'b', 3)");
        try (Statement statement =
            connection.createStatement(ResultSet.TYPE_SCROLL_INSENSITIVE, ResultSet.CONCUR_UPDATABLE)) {
            ResultSet rows = statement.executeQuery("SELECT shelf, place, title, price FROM books ORDER BY place");
            rows.last();
            same(2, rows.getRow());
            rows.updateString("title", "bb");
            rows.updateRow();
            rows.first();
            rows.deleteRow();
            rows.moveToInsertRow();
            rows.updateInt("shelf", 2);
            rows.updateInt("place", 7);
            rows.updateString("title", "c");
            rows.insertRow();
        }
        same("bb, c", value(connection, "SELECT string_agg(title, ', ' ORDER BY title) FROM books"));
    }

    private static void copy(Connection connection) throws Exception {
        execute(connection, "CREATE TABLE copied (id int PRIMARY KEY, name text)");
        CopyManager manager = connection.unwrap(PGConnection.class).getCopyAPI();
        same(2L, manager.copyIn("COPY copied FROM STDIN (FORMAT csv)", new StringReader("1,\"a,b\"\n2,\n")));
        StringWriter output = new StringWriter();
        same(2L, manager.copyOut("COPY (SELECT * FROM copied ORDER BY id) TO STDOUT (FORMAT csv)", output));
        same("1,\"a,b\"\n2,\n", output.toString());
    }

    private static void cancel(Connection connection) throws Exception {
        try (Statement statement = connection.createStatement()) {
            statement.setQueryTimeout(1);
            statement.executeQuery("SELECT count(*) FROM generate_series(1, 2000000000) a");
            throw new AssertionError("the statement was not cancelled");
        } catch (SQLException error) {
            same("57014", error.getSQLState());
        }
        same(1, value(connection, "SELECT 1"));
    }
}
