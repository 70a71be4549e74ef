import Actors
import Base
import Contracts
import DataModel
import Testing

@Suite("Records as hashes")
struct RecordHashTests {
    private let rows = RowRig()
    private var rig: Rig { rows.rig }
    private let wrongType = Answer.error("Operation against a key holding the wrong kind of value")

    private func users(version: UInt64 = 1) -> CollectionDescriptor {
        var users = RowRig.descriptor(version: version)
        let types: [(String, DataType)] = [("id", .int64), ("name", .text), ("age", .int32), ("weight", .float64)]
        users.columns = types.enumerated().map { position, column in
            CollectionDescriptor.Column(
                id: ColumnID(rawValue: UInt16(position + 1)), name: column.0, type: column.1,
                isNotNull: column.0 == "name")
        }
        users.primaryKey = [ColumnID(rawValue: 1)]
        return users
    }

    private func stored(_ number: Int64) -> [UInt32: String]? {
        guard let record = rows.get(number).first ?? nil else { return nil }
        let columns = latin(record).withUnsafeBytes { RecordEncoding.decode($0) } ?? []
        return Dictionary(uniqueKeysWithValues: columns.map { ($0.column, "\($0.value)") })
    }

    @Test("the record that a row is, is the hash that its key names, in both directions")
    func bothWays() {
        rows.define([users()])
        #expect(rig.call(.hashGetAll, "users:42") == .list([]))
        let row = RecordEncoding.encode([(1, .integer(42)), (2, .text("Ada")), (3, .integer(36))])
        rows.put(42, text(row))
        #expect(rig.call(.hashGetAll, "users:42") == .items(["id", "42", "name", "Ada", "age", "36"]))
        #expect(rig.call(.hashMultiGet, "users:42", ["age", "weight", "no"]) == .list([.data("36"), .null, .null]))
        #expect(rig.call(.hashSet, "users:42", ["age", "37", "weight", "1.5"]) == .integer(1))
        #expect(stored(42) == [1: "integer(42)", 2: "text(\"Ada\")", 3: "integer(37)", 4: "float(1.5)"])
        #expect(rig.call(.type, "users:42") == .data("hash") && rig.call(.hashLength, "users:42") == .integer(4))
        #expect(rig.call(.hashIncrementBy, "users:42", ["age"], numbers: [5]) == .integer(42))
        #expect(rig.call(.hashIncrementByFloat, "users:42", ["weight", "0.25"]) == .data("1.75"))
        #expect(rig.call(.hashDelete, "users:42", ["weight", "no"]) == .integer(1))
        #expect(rig.call(.hashScan, "users:42", numbers: [0, 1]).texts.count == 7)
        rig.settle()
        rig.restart()
        #expect(rig.call(.hashGet, "users:42", ["age"]) == .data("42"))
        #expect(rig.call(.delete, "users:42", ["users:43", "k"]) == .integer(1) && rows.get(42) == [nil])
    }

    @Test("what breaks a rule of the collection is an error, and the record as it was")
    func rules() {
        rows.define([users()])
        #expect(
            rig.call(.hashSet, "users:1", ["age", "3"])
                == .error("null value in column \"name\" of relation \"users\" violates not-null constraint"))
        #expect(rows.get(1) == [nil])
        #expect(rig.call(.hashSet, "users:1", ["name", "Ada", "age", "3"]) == .integer(2))
        let before = stored(1)
        #expect(before == [1: "integer(1)", 2: "text(\"Ada\")", 3: "integer(3)"])
        for words in [["age", "abc"], ["name", "Bo", "age", "99999999999"], ["id", "2"], ["no", "x"]] {
            guard case .error = rig.call(.hashSet, "users:1", words) else {
                Issue.record("\(words) was taken")
                continue
            }
        }
        #expect(
            rig.call(.hashIncrementBy, "users:1", ["age"], numbers: [.max - 2])
                == .error("value \"9223372036854775807\" is out of range for type integer")
                || rig.call(.hashGet, "users:1", ["age"]) == .data("3"))
        for name in ["name", "id"] {
            guard case .error = rig.call(.hashDelete, "users:1", [name]) else {
                Issue.record("\(name) was removed")
                continue
            }
        }
        #expect(stored(1) == before && rig.call(.hashSet, "users:1", ["id", "1"]) == .integer(0))
        for key in ["users:042", "users:x", "users:"] {
            guard case .error = rig.call(.hashGetAll, key) else {
                Issue.record("\(key) is no key")
                continue
            }
        }
    }

    @Test("other types' commands are refused, other keys are what they were")
    func otherKinds() {
        #expect(rig.call(.set, "users:7", ["early"]) == .ok)
        rows.define([users()])
        #expect(rig.call(.set, "users:1", ["x"]) == wrongType && rig.call(.get, "users:1") == wrongType)
        #expect(rig.call(.set, "other:1", ["x"]) == .ok && rig.call(.get, "other:1") == .data("x"))
        #expect(rig.call(.set, "users:1", ["x"], database: 1) == .ok)
        _ = rig.call(.hashSet, "users:1", ["name", "Ada"])
        guard case .error = rig.call(.rename, "users:1", ["other:1"]) else {
            Issue.record("a record was renamed")
            return
        }
        #expect(rig.call(.exists, "users:1", ["other:1", "users:2"]) == .integer(2))
        #expect(rig.call(.multiGet, "other:1", ["users:1"]) == .list([.data("x"), .null]))
        #expect(Set(rig.scanAll(.scan)) == ["users:7", "other:1"] && rig.call(.databaseSize) == .integer(2))
        #expect(rig.call(.expire, "users:1", numbers: [1000], flags: ExpireFlags.relativeTime.rawValue) == .integer(1))
        #expect(rig.call(.timeToLive, "users:1") == .integer(1000))
        rig.now += 1000
        #expect(rig.call(.hashGetAll, "users:1") == .list([]) && rows.get(1) == [nil])
        rows.drop([RowRig.users], by: 1)
        #expect(rig.call(.get, "users:7") == .data("early"), "a key of Redis again")
    }

    @Test("a watch of the key sees what is done to the row; a transaction sees its own")
    func watches() throws {
        rows.define([users()])
        _ = rig.call(.hashSet, "users:1", ["name", "Ada"])
        let version = rig.version("users:1")
        #expect(version == rig.version(RowRig.key(1), database: RowKey.database))
        #expect(try rig.holds("users:1", .version(version)))
        rows.delete(1)
        #expect(try !rig.holds("users:1", .version(version)) && rig.holds("users:1", .absent))
        rig.settle()
        let scope = ScopeRig(rig)
        scope.run {
            #expect(rig.call(.hashSet, "users:1", ["name", "Bo"]) == .integer(1))
            #expect(rig.call(.hashGet, "users:1", ["name"]) == .data("Bo"))
        }
        #expect(rig.call(.hashGetAll, "users:1") == .list([]))
        try scope.commit()
        #expect(rig.call(.hashGet, "users:1", ["name"]) == .data("Bo"))
    }

    @Test("no call on a record traps", arguments: 1...6 as ClosedRange<UInt64>)
    func garbage(_ seed: UInt64) {
        var random = SplitMix64(seed: seed)
        rows.define([users()])
        let keys = ["users:1", "users:2", "users:x", "users:", "users", "k"]
        let words = ["id", "name", "age", "weight", "1", "2.5", "-9223372036854775808", "", "\u{ff}"] + keys
        let methods = ActorMethod.allCases.filter { $0.rawValue < ActorMethod.rowGet.rawValue }
        for _ in 0..<3000 {
            let arguments = (0..<random.next(below: 5)).map { _ in words[Int(random.next(below: UInt64(words.count)))] }
            let numbers = (0..<random.next(below: 5)).map { _ in
                random.next(below: 3) == 0 ? Int64(bitPattern: random.next()) : Int64(random.next(below: 100))
            }
            _ = rig.call(
                methods[Int(random.next(below: UInt64(methods.count)))], keys[Int(random.next(below: 6))], arguments,
                numbers: numbers, flags: UInt32(random.next(below: 8)))
            if random.next(below: 40) == 0 { rig.settle() }
        }
        rows.put(1, "damaged")
        #expect(rig.call(.hashGetAll, "users:1") == .error("a stored record is damaged"))
    }
}
