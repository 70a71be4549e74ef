import Base
import Contracts
import QueryLanguages
import TestKit
import Testing

/// The data of COPY: what PostgreSQL 15 makes of it was looked up there.
@Suite struct CopyReaderTests {
    /// Reads `data` in pieces of `step` bytes; rows are written with `|` between fields and `~` for NULL, an error as
    /// its message and context.
    static func read(_ data: Bytes, _ options: String = "", columns: [String] = ["a", "b"], step: Int = .max)
        -> [String]
    {
        var rows: [String] = []
        do throws(StatementError) {
            var reader = try reader(options, columns)
            var place = 0
            while place < data.count {
                let end = step > data.count ? data.count : min(place + step, data.count)
                data.withUnsafeBytes { reader.append(ByteView(rebasing: $0[place..<end])) }
                place = end
                try take(&reader, columns.count, &rows)
            }
            reader.finish()
            try take(&reader, columns.count, &rows)
        } catch {
            rows.append("\(error.state.rawValue) \(error.message) @ \(error.context ?? "")")
        }
        return rows
    }

    static func reader(_ options: String, _ columns: [String]) throws(StatementError) -> CopyReader {
        let text = "COPY t FROM STDIN" + (options.isEmpty ? "" : " (\(options))")
        guard let plan = try SQLParser.parse(Bytes(text.utf8)).first?.plan else {
            throw StatementError(.syntaxError, "no statement")
        }
        let statement = try CopyStatement(plan)
        return try CopyReader(statement.format, table: statement.table, columns: columns, isListed: false)
    }

    private static func take(_ reader: inout CopyReader, _ count: Int, _ rows: inout [String]) throws(StatementError) {
        while try reader.next() {
            var fields: [String] = []
            for index in 0..<count {
                fields.append(try reader.field(index).map { String(decoding: $0, as: UTF8.self) } ?? "~")
            }
            rows.append(fields.joined(separator: "|"))
        }
    }

    private func check(_ data: String, _ rows: [String], _ options: String = "", columns: [String] = ["a", "b"]) {
        let bytes = Bytes(data.utf8)
        for step in [Int.max, 1, 2, 3, 7] {
            #expect(Self.read(bytes, options, columns: columns, step: step) == rows, "\(data) in steps of \(step)")
        }
    }

    @Test func text() {
        check("1\tone\n2\t\\N\n", ["1|one", "2|~"])
        check("1\t\\t\\\\c\\nx\\x41\\101\\q", ["1|\t\\c\nxAAq"])
        check("1\ta\\\nb\n2\tc\\", ["1|a\nb", "2|c"])
        check("1\ta\r\n2\tb\r\n", ["1|a", "2|b"])
        check("1\ta\r2\tb", ["1|a", "2|b"])
        check("1\ta\n\\.\n2\tb\n", ["1|a"])
        check("1\ta\\.\n", ["1|a"])
        check("1|x;\n", ["1|~"], "delimiter '|', null 'x;'")
        check("\n", [""], columns: ["a"])
    }

    @Test func textErrors() {
        check("1\n", ["22P04 missing data for column \"b\" @ COPY t, line 1: \"1\""])
        check("1\ta\n2\tb\tc\n", ["1|a", "22P04 extra data after last expected column @ COPY t, line 2: \"2\tb\tc\""])
        check("1\ta\n2\tb\r\n", ["1|a", "22P04 literal carriage return found in data @ COPY t, line 2"])
        check("1\ta\r\n2\tb\n", ["1|a", "22P04 literal newline found in data @ COPY t, line 2"])
        check("1\t\\.x\n", ["22P04 end-of-copy marker corrupt @ COPY t, line 1"])
        let long = String(repeating: "x", count: 120)
        check(long + "\n", ["22P04 missing data for column \"b\" @ COPY t, line 1: \"\(long.prefix(100))...\""])
        let damaged = Self.read([0x31, 9, 0xFF, 10])
        #expect(damaged == ["22021 invalid byte sequence for encoding \"UTF8\": 0xff @ COPY t, line 1"])
        let zero = Self.read([0x31, 9, 0, 10])
        #expect(zero == ["22021 invalid byte sequence for encoding \"UTF8\": 0x00 @ COPY t, line 1"])
    }

    @Test func csv() {
        check("1,one\n2,\n3,\"\"\n", ["1|one", "2|~", "3|"], "format csv")
        check("1,\"a \"\"q\"\" and\nb\"\n", ["1|a \"q\" and\nb"], "format csv")
        check("1,x\"y,z\"w\n", ["1|xy,zw"], "format csv")
        check("1,\"a\\\"b\\\\\"\n", ["1|a\"b\\"], "format csv, escape '\\'")
        check("1,a\n\\.\n2,b\n", ["1|a"], "format csv")
        check("\\.x,a\n", ["\\.x|a"], "format csv")
        check("a,b\n1,2\n", ["1|2"], "format csv, header")
        check("a,b\n", [], "format csv, header")
        check(",\"\"\n", ["|~"], "format csv, force_not_null (a), force_null (b)")
        let cut = "22P04 unterminated CSV quoted field @ COPY t, line 4: \"1,\"a\n\n\""
        check("0,x\n1,\"a\n\n", ["0|x", cut], "format csv")
        check("1,a\n2,b\rc\n", ["1|a", "22P04 unquoted carriage return found in data @ COPY t, line 2"], "format csv")
    }

    @Test func header() {
        check("a\tb\n1\t2\n", ["1|2"], "header match")
        check(
            "a\n", ["22P04 wrong number of fields in header line: got 1, expected 2 @ COPY t, line 1: \"a\""],
            "header match")
        let wrong =
            "22P04 column name mismatch in header line field 2: got \"c\", expected \"b\" @ COPY t, line 1: \"a\tc\""
        check("a\tc\n", [wrong], "header match")
    }

    @Test func binary() {
        let signature = Bytes("PGCOPY\n".utf8) + [0xFF, 0x0D, 0x0A, 0x00] + Bytes(repeating: 0, count: 8)
        let row: Bytes = [0, 2, 0, 0, 0, 1, 0x41, 0xFF, 0xFF, 0xFF, 0xFF], end: Bytes = [0xFF, 0xFF]
        for step in [Int.max, 1, 5] {
            #expect(Self.read(signature + row + row + end, "format binary", step: step) == ["A|~", "A|~"])
        }
        #expect(Self.read(signature + row, "format binary") == ["A|~"])
        #expect(
            Self.read(signature + row.dropLast(), "format binary") == [
                "22P04 unexpected EOF in COPY data @ COPY t, line 1"
            ])
        #expect(Self.read(Bytes("nonsense, and long enough".utf8), "format binary").first?.hasPrefix("22P04") == true)
    }

    @Test func optionsAreThoseOfPostgreSQL() {
        for (options, error) in [
            ("format foo", "22023 COPY format \"foo\" not recognized"),
            ("format text, format csv", "42601 conflicting or redundant options"),
            ("delimiter 'ab'", "0A000 COPY delimiter must be a single one-byte character"),
            ("delimiter 'a'", "22023 COPY delimiter cannot be \"a\""),
            ("quote '\"'", "0A000 COPY quote available only in CSV mode"),
            ("format csv, quote ','", "22023 COPY delimiter and quote must be different"),
            ("force_null (a)", "0A000 COPY force null available only in CSV mode"),
            ("format csv, force_quote (a)", "0A000 COPY force quote only available using COPY TO"),
            ("format csv, force_null (zz)", "42703 column \"zz\" of relation \"t\" does not exist"),
            (
                "format csv, force_not_null a",
                "22023 argument to option \"force_not_null\" must be a list of column names"
            ),
            ("nope", "42601 option \"nope\" not recognized"),
            ("header maybe", "42601 header requires a Boolean value or \"match\""),
            ("freeze 'x'", "42601 freeze requires a Boolean value"),
            ("delimiter", "42601 delimiter requires a parameter"),
            ("format binary, header", "0A000 cannot specify HEADER in BINARY mode"),
            ("format csv, null '\"'", "0A000 CSV quote character must not appear in the NULL specification"),
        ] {
            #expect(Self.read([], options) == [error + " @ "], "\(options)")
        }
    }

    /// However the data is cut, the same comes of it; and whatever it is, it ends in rows or an error.
    @Test func piecesMeanNothing() {
        var random = SplitMix64(seed: freshSeed("copy data"))
        let alphabet = Bytes("ab12,,\t\t\"\"\\\\.\r\n\n\nN'x|".utf8) + [0, 0xC3, 0xA9, 0xFF]
        let options = [
            "", "format csv", "format csv, header match", "format csv, escape '\\', quote ''''", "format binary",
        ]
        for _ in 0..<400 {
            var data = (0..<random.next(below: 60)).map { _ in alphabet[Int(random.next(below: UInt64(alphabet.count)))]
            }
            let option = options[Int(random.next(below: UInt64(options.count)))]
            if option == "format binary" {
                data =
                    Bytes("PGCOPY\n".utf8) + [0xFF, 0x0D, 0x0A, 0x00] + Bytes(repeating: 0, count: 8) + [0, 2] + data
                data[Int(random.next(below: UInt64(data.count)))] &+= 1
            }
            let whole = Self.read(data, option)
            for step in [1, 2, 5] { #expect(Self.read(data, option, step: step) == whole, "\(data) \(option)") }
        }
    }

    /// What is written is read back as it was.
    @Test func whatIsWrittenIsReadBack() throws {
        var random = SplitMix64(seed: freshSeed("copy round trip"))
        let alphabet = Bytes("ab,\t\"\\.\r\n'N|é\u{8}\u{c}\u{b}".utf8)
        for options in ["", "format csv", "format csv, quote '''', escape '\\'", "delimiter '|', null 'zz'"] {
            for _ in 0..<100 {
                let values: [Bytes?] = (0..<2).map { _ in
                    guard random.next(below: 5) > 0 else { return nil }
                    let bytes = (0..<random.next(below: 6)).map { _ in
                        alphabet[Int(random.next(below: UInt64(alphabet.count)))]
                    }
                    return String(validating: bytes, as: UTF8.self) == nil ? Bytes("x".utf8) : bytes
                }
                let text = "COPY t TO STDOUT" + (options.isEmpty ? "" : " (\(options))")
                let plan = try #require(try SQLParser.parse(Bytes(text.utf8)).first?.plan)
                let writer = try CopyWriter(
                    CopyStatement(plan).format, table: "t", columns: ["a", "b"], isListed: false)
                let shown = values.map { $0.map { String(decoding: $0, as: UTF8.self) } ?? "~" }.joined(separator: "|")
                #expect(Self.read(writer.line(values), options) == [shown], "\(values) \(options)")
            }
        }
    }
}
