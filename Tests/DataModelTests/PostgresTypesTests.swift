import Base
import DataModel
import Testing

/// Expected names are what PostgreSQL 15's format_type answers.
@Suite("PostgreSQL's types")
struct PostgresTypesTests {
    @Test("every kind has one row, every number one type")
    func rows() {
        #expect(Set(PostgresTypes.rows.map(\.kind)) == Set(DataType.Kind.allCases))
        #expect(PostgresTypes.rows.count == DataType.Kind.allCases.count)
        for row in PostgresTypes.rows {
            #expect(PostgresTypes.row(of: row.kind) == row)
            #expect(PostgresTypes.type(oid: row.oid) == DataType(row.kind))
            #expect(PostgresTypes.type(named: row.name) == DataType(row.kind))
            guard row.arrayOID != 0 else { continue }
            #expect(PostgresTypes.type(oid: row.arrayOID) == DataType(row.kind).array)
            #expect(PostgresTypes.type(named: "_" + row.name) == DataType(row.kind).array)
        }
        #expect(PostgresTypes.type(oid: 1) == nil)
    }

    @Test(
        "types print as format_type prints them",
        arguments: [
            (DataType.int32, "integer"), (DataType.int64.array, "bigint[]"),
            (DataType(.varchar, modifier: 14), "character varying(10)"),
            (DataType(.varchar), "character varying"), (DataType(.char), "bpchar"), (DataType(.char).array, "bpchar[]"),
            (DataType(.char, modifier: 5), "character(1)"), (DataType(.char, modifier: 14).array, "character(10)[]"),
            (DataType(.decimal, modifier: 655_366), "numeric(10,2)"),
            (DataType(.decimal, modifier: 329_730), "numeric(5,-2)"),
            (DataType(.timestamp, modifier: 3), "timestamp(3) without time zone"),
            (DataType(.timeWithZone, modifier: 0), "time(0) with time zone"),
            (DataType(.interval, modifier: 0x7fff << 16 | 3), "interval(3)"),
            (DataType(.interval, modifier: 4 << 16 | 0xffff), "interval year"),
            (DataType(.interval, modifier: 7168 << 16 | 3), "interval hour to second(3)"),
            (DataType(.internalChar), "\"char\""), (DataType(.float64), "double precision"),
        ] as [(DataType, String)])
    func formatted(_ type: DataType, _ text: String) {
        #expect(type.formatted == text)
    }

    @Test("spellings of SQL lead to types")
    func spellings() {
        #expect(PostgresTypes.type(spelled: "integer") == .int32)
        #expect(PostgresTypes.type(spelled: "int4") == .int32)
        #expect(PostgresTypes.type(spelled: "char") == DataType(.char, modifier: 5))
        #expect(PostgresTypes.type(named: "char") == .internalChar)
        #expect(PostgresTypes.type(spelled: "double precision") == .float64)
        #expect(PostgresTypes.type(spelled: "timestamp with time zone") == .timestampWithZone)
        #expect(PostgresTypes.type(spelled: "no such") == nil)
    }

    @Test("modifiers are packed as PostgreSQL packs them, or refused in its words")
    func modifiers() throws {
        #expect(try DataType.varchar.constrained(by: [10]).modifier == 14)
        #expect(try DataType.decimal.constrained(by: [10, 2]).modifier == 655_366)
        #expect(try DataType.decimal.constrained(by: [5, -2]).scale == -2)
        #expect(try DataType.decimal.constrained(by: [5, -2]).precision == 5)
        #expect(try DataType.decimal.constrained(by: [5]).scale == 0)
        #expect(try DataType.timestamp.constrained(by: [9]).precision == 6)
        #expect(try DataType.interval.constrained(by: [3]).formatted == "interval(3)")
        #expect(throws: StatementError(.invalidParameterValue, "length for type varchar must be at least 1")) {
            try DataType.varchar.constrained(by: [0])
        }
        #expect(throws: StatementError(.invalidParameterValue, "NUMERIC precision 1001 must be between 1 and 1000")) {
            try DataType.decimal.constrained(by: [1001])
        }
        #expect(throws: StatementError(.syntaxError, "type modifier is not allowed for type \"int4\"")) {
            try DataType.int32.constrained(by: [3])
        }
    }
}
