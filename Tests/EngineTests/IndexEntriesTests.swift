import Base
import DataModel
import TestKit
import Testing

@testable import Engine

@Suite("Entries of indexes")
struct IndexEntriesTests {
    private static let form = EntryForm(isUnique: true, types: [.int32])

    private static func key(_ value: Int64?, _ owner: UInt8) -> EntryForm.Key {
        form.key([value.map(Value.integer) ?? .null], owner: [owner])
    }

    private static func step(_ row: Int32, _ old: Int64?, _ fresh: Int64?, owner: UInt8) -> EntryChanges.Step {
        EntryChanges.Step(
            row: row, old: old.map { key($0, owner) }, fresh: fresh.map { key($0, owner) }, owner: [owner],
            isMoved: false)
    }

    @Test("entries of a unique index are their values; those with NULL, and of other indexes, name the row too")
    func forms() {
        #expect(Self.key(7, 1) == EntryForm.Key(bytes: [0x19, 7], isExclusive: true))
        #expect(Self.key(nil, 1) == EntryForm.Key(bytes: [1, 1], isExclusive: false))
        #expect(Self.key(nil, 1) != Self.key(nil, 2))
        let plain = EntryForm(isUnique: false, types: [.int32])
        #expect(plain.key([.integer(7)], owner: [9]) == EntryForm.Key(bytes: [0x19, 7, 9], isExclusive: false))
        #expect(EntryForm.owner(of: EntryForm.record(owner: [0, 255, 3])) == [0, 255, 3])
        for damaged in [[], [1], [9, 9, 9]] as [Bytes] { #expect(EntryForm.owner(of: damaged) == nil) }
    }

    @Test("a value that another row still has is refused, one that it has given up before is not")
    func order() {
        // Swapped: the first step meets what the second row has.
        #expect(EntryChanges([Self.step(0, 1, 2, owner: 1), Self.step(1, 2, 1, owner: 2)]).violation == 0)
        // Upwards from the highest: each place is free when it is taken.
        let shifted = EntryChanges([Self.step(0, 2, 3, owner: 2), Self.step(1, 1, 2, owner: 1)])
        #expect(shifted.violation == nil)
        #expect(
            shifted.changes.map(\.mode) == [.upsert, .insert, .delete]
                && shifted.changes.map(\.key) == [[0x19, 2], [0x19, 3], [0x19, 1]])
        #expect(EntryChanges([Self.step(0, 1, 2, owner: 1), Self.step(1, 2, 3, owner: 2)]).violation == 0)
        // A row that keeps its value keeps others from it.
        #expect(EntryChanges([Self.step(0, 1, 1, owner: 1), Self.step(1, 2, 1, owner: 2)]).violation == 1)
        #expect(EntryChanges([Self.step(0, 1, 1, owner: 1)]).changes.isEmpty)
        #expect(EntryChanges([Self.step(0, nil, 5, owner: 1), Self.step(1, nil, 5, owner: 2)]).violation == 1)
    }

    @Test("random steps come to what they come to one after the other")
    func random() {
        var random = SplitMix64(seed: freshSeed("entries"))
        for _ in 0..<2000 {
            var values: [Int64?] = []
            for value in Array(0..<Int64(6)).shuffled(using: &random).prefix(4) {
                values.append(Bool.random(using: &random) ? value : nil)
            }
            var owners: [Bytes: UInt8] = [:], steps: [EntryChanges.Step] = [], failed: Int32?
            func entry(_ row: Int, _ value: Int64?) -> EntryForm.Key { Self.key(value, UInt8(row)) }
            for (row, value) in values.enumerated() { owners[entry(row, value).bytes] = UInt8(row) }
            let before = owners
            for row in values.indices.shuffled(using: &random) {
                let fresh = Bool.random(using: &random) ? Int64.random(in: 0..<6, using: &random) : nil
                let isDeleted = Int.random(in: 0..<5, using: &random) == 0
                let old = entry(row, values[row]), new = isDeleted ? nil : entry(row, fresh)
                steps.append(
                    .init(row: Int32(row), old: old, fresh: new, owner: [UInt8(row)], isMoved: false))
                guard failed == nil else { continue }
                owners[old.bytes] = nil
                guard let new else { continue }
                if owners[new.bytes] != nil { failed = Int32(row) } else { owners[new.bytes] = UInt8(row) }
            }
            let changes = EntryChanges(steps)
            #expect(changes.violation == failed)
            guard failed == nil else { continue }
            var entries = before
            for change in changes.changes {
                switch change.mode {
                case .insert:
                    #expect(entries[change.key] == nil)
                    entries[change.key] = EntryForm.owner(of: change.record)?.first
                case .upsert: entries[change.key] = EntryForm.owner(of: change.record)?.first
                case .delete: entries[change.key] = nil
                case .update: Issue.record("entries are not updated")
                }
            }
            #expect(entries == owners)
        }
    }
}
