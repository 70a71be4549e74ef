import Base
import DataModel
import Foundation
import TestKit
import Testing

/// What a corpus file says, and the zone that its answers were given in.
enum Corpus {
    static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("Corpus")

    struct Line: Sendable {
        let type: String, text: String, answer: [String]
    }

    static func unescaped(_ field: Substring) -> String {
        if field == "\\e" { return "" }
        var result = "", isEscaped = false
        for character in field {
            if isEscaped {
                result.append(["n": "\n", "t": "\t", "r": "\r"][character] ?? character)
                isEscaped = false
            } else if character == "\\" {
                isEscaped = true
            } else {
                result.append(character)
            }
        }
        return result
    }

    static let lines: [Line] = {
        let text = (try? String(contentsOf: folder.appendingPathComponent("values.txt"), encoding: .utf8)) ?? ""
        return text.split(separator: "\n").map { line in
            let fields = line.split(separator: "\t", omittingEmptySubsequences: false).map(unescaped)
            return Line(type: fields[0], text: fields[1], answer: Array(fields.dropFirst(2)))
        }
    }()

    static let newYork: ZoneRules? = {
        let text = (try? String(contentsOf: folder.appendingPathComponent("New_York.hex"), encoding: .utf8)) ?? ""
        let digits = text.compactMap { $0.hexDigitValue.map(UInt8.init) }
        let bytes = stride(from: 0, to: digits.count - 1, by: 2).map { digits[$0] << 4 | digits[$0 + 1] }
        return bytes.withUnsafeBytes { ZoneRules(name: "America/New_York", tzif: $0) }
    }()

    static func settings() throws -> TextSettings {
        let zone = try #require(newYork)
        return TextSettings(zone: zone, now: 1_718_000_000_000_000) { name in
            name.lowercased() == "america/new_york" ? zone : nil
        }
    }
}

@Suite("Values as text")
struct ValueTextTests {
    private func typeNamed(_ name: String) -> DataType? {
        name.hasSuffix("[]")
            ? PostgresTypes.type(spelled: String(name.dropLast(2)))?.array : PostgresTypes.type(spelled: name)
    }

    @Test("reads, prints and refuses what PostgreSQL 15 does")
    func corpus() throws {
        #expect(Corpus.lines.count > 300, "the corpus was not found")
        let settings = try Corpus.settings()
        for line in Corpus.lines where !line.type.hasPrefix("= ") {
            let type = try #require(typeNamed(line.type), "\(line.type)")
            var answer: [String]
            do throws(StatementError) {
                let value = try ValueText.parse(line.text, as: type, settings)
                answer = ["ok", ValueText.text(of: value, as: type, settings)]
                var buffer = ByteBuffer(capacity: 64)
                ValueBinary.append(value, as: type, into: &buffer)
                let again = try ValueBinary.decode(buffer.readable, as: type)
                #expect(
                    ValueText.text(of: again, as: type, settings) == answer[1], "\(line.type) \(line.text) in binary")
                let reread = try ValueText.parse(answer[1], as: type, settings)
                #expect(reread == value, "\(line.type) \(line.text) read again")
            } catch {
                answer = [error.state.rawValue, error.message] + (error.detail.map { [$0] } ?? [])
            }
            #expect(answer == line.answer, "\(line.type) \(line.text)")
        }
    }

    @Test("plain integers are what the general way reads, and nothing else is one")
    func plainIntegers() throws {
        let texts = [
            "0", "-0", "7", "-7", "32767", "32768", "-32768", "-32769", "2147483647", "2147483648", "-2147483648",
            "-2147483649", "999999999999999999", "-999999999999999999", "9223372036854775807", "+1", " 1", "1 ", "",
            "-", "--1", "1.0", "0x1", "1_000", "a", "１",
        ]
        for type in [DataType.int16, .int32, .int64] {
            for text in texts {
                let plain = Array(text.utf8).withUnsafeBytes { ValueText.plainInteger($0, type) }
                let general = try? ValueText.parse(text, as: type)
                if let plain { #expect(general == .integer(plain), "\(text)") }
                let both = Array(text.utf8).withUnsafeBytes { try? ValueText.parse($0, as: type) }
                #expect(both == general, "\(text)")
            }
        }
        #expect(Array("1".utf8).withUnsafeBytes { ValueText.plainInteger($0, .text) } == nil)
        #expect(Array("1".utf8).withUnsafeBytes { ValueText.plainInteger($0, .int32.array) } == nil)
    }

    @Test("dates and times in words depend on the time given")
    func words() throws {
        let settings = try Corpus.settings()
        func print(_ text: String, _ type: DataType) throws -> String {
            ValueText.text(of: try ValueText.parse(text, as: type, settings), as: type, settings)
        }
        #expect(try print("now", .timestampWithZone) == "2024-06-10 02:13:20-04")
        #expect(try print("now", .timestamp) == "2024-06-10 02:13:20")
        #expect(try print("tomorrow", .date) == "2024-06-11")
        #expect(try print("yesterday 04:05", .timestampWithZone) == "2024-06-09 04:05:00-04")
        #expect(try print("today", .timestamp) == "2024-06-10 00:00:00")
        #expect(try print("now", .timeWithZone) == "02:13:20-04")
    }

    @Test("no text is a trap")
    func damage() throws {
        let seed = freshSeed("ValueText")
        var random = SplitMix64(seed: seed)
        let settings = try Corpus.settings()
        for line in Corpus.lines where !line.type.hasPrefix("= ") {
            let type = try #require(typeNamed(line.type))
            for bytes in Damage.corruptions(of: Array(line.text.utf8), count: 10, using: &random) {
                guard let value = try? ValueText.parse(String(decoding: bytes, as: UTF8.self), as: type, settings)
                else { continue }
                _ = ValueText.text(of: value, as: type, settings)
                #expect(value == value, "seed \(seed)")
            }
        }
    }

    @Test("an assignment refuses what is too long, a cast cuts it")
    func lengths() throws {
        let varchar = DataType(.varchar, modifier: 7), char = DataType(.char, modifier: 7)
        #expect(try Value.text("abc").coerced(to: char, isExplicit: false).isIdentical(to: "abc"))
        #expect(try Value.text("ab").coerced(to: char, isExplicit: false).isIdentical(to: "ab "))
        #expect(try Value.text("abc  ").coerced(to: varchar, isExplicit: false).isIdentical(to: "abc"))
        #expect(try Value.text("äöüß").coerced(to: varchar, isExplicit: true).isIdentical(to: "äöü"))
        #expect(throws: StatementError(.stringDataRightTruncation, "value too long for type character varying(3)")) {
            try Value.text("abcd").coerced(to: varchar, isExplicit: false)
        }
        let numeric = try DataType.decimal.constrained(by: [5, 2])
        #expect(ValueText.text(of: try ValueText.parse("1.005", as: numeric), as: numeric) == "1.01")
        #expect(
            throws: StatementError(
                .numericValueOutOfRange, "numeric field overflow",
                detail: "A field with precision 5, scale 2 must round to an absolute value less than 10^3.")
        ) { try ValueText.parse("1000", as: numeric) }
        let seconds = try DataType.timestamp.constrained(by: [0])
        #expect(
            ValueText.text(of: try ValueText.parse("2024-01-01 00:00:00.5", as: seconds), as: seconds)
                == "2024-01-01 00:00:01")
        let dayToHour = DataType(
            .interval, modifier: IntervalFields(mask: IntervalFields.day | IntervalFields.hour).modifier)
        #expect(ValueText.text(of: try ValueText.parse("1 12:34:56", as: dayToHour), as: dayToHour) == "1 day 12:00:00")
    }
}

extension Value {
    fileprivate func isIdentical(to text: String) -> Bool {
        if case .text(let own) = self { return Array(own.utf8) == Array(text.utf8) }
        return false
    }
}
