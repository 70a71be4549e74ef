import Base
import Contracts
import DataModel
import Storage
import TestKit
import Testing

@testable import StorageNode

/// What a node writes has the timestamps that reads of the past need.
@Suite("Versions at a node", .serialized)
struct PastTests {
    private func tell(shards: Int = 1, _ begin: @escaping (Stage) -> Void) throws {
        try Stage.withDirectory { directory in try Stage.run(directory, shards: shards, begin) }
    }

    private func when(_ stage: Stage, _ condition: @escaping () -> Bool, _ next: @escaping () -> Void) {
        stage.poll {
            guard condition() else { return false }
            next()
            return true
        }
    }

    /// The store of a key's shard, and the key of its record.
    private func place(_ stage: Stage, _ key: String) -> (store: ShardStore, record: Bytes) {
        var buffer = ByteBuffer(capacity: 64)
        let slot = Bytes(key.utf8).withUnsafeBytes { Int(Slot.of($0).rawValue) }
        let bucket = slot * Stage.bucketCount / Slot.count
        Bytes(key.utf8).withUnsafeBytes {
            NativeKeyLayout.appendRecord(BucketID(rawValue: UInt16(bucket)), database: 0, key: $0, into: &buffer)
        }
        let executor = stage.node.executors.first { $0.buckets.contains { $0.contains(bucket) } }
        return ((executor ?? stage.node.executors[0]).store, buffer.readable.bytes)
    }

    /// The string that a key had, and since when.
    private func past(_ stage: Stage, _ key: String, asOf time: Timestamp) -> (text: String?, timestamp: Timestamp) {
        let place = place(stage, key)
        var found: (String?, Timestamp) = (nil, .zero)
        try? place.record.withUnsafeBytes { record in
            try place.store.withValue(record, asOf: time) { value, timestamp in
                let bytes = value.map { Bytes($0.dropFirst(KeyspaceRecord.headerSize)) }
                found = (bytes.map { String(decoding: $0, as: UTF8.self) }, timestamp)
            }
        }
        return found
    }

    @Test("a call is told a time at which its write shows, and at which the next one does not")
    func toldTimes() throws {
        try tell { stage in
            let clock = stage.node.clock
            stage.caller.set("a", "1")
            when(stage, { stage.caller.isSettled }) {
                let first = clock.last
                stage.caller.set("a", "2")
                when(stage, { stage.caller.isSettled }) {
                    let second = clock.last
                    stage.caller.call(.delete, "a")
                    when(stage, { stage.caller.isSettled }) {
                        #expect(past(stage, "a", asOf: first).text == "1")
                        #expect(past(stage, "a", asOf: second).text == "2")
                        #expect(past(stage, "a", asOf: clock.last).text == nil)
                        try? place(stage, "a").store.flush()
                        #expect(past(stage, "a", asOf: first).text == "1", "from the store")
                        #expect(past(stage, "a", asOf: second).text == "2", "from the store")
                        #expect(past(stage, "a", asOf: clock.last).text == nil, "from the store")
                        stage.finish()
                    }
                }
            }
        }
    }

    @Test("what a batch has changed has one timestamp, above the one that it answers with")
    func batchesAreOneMoment() throws {
        try tell { stage in
            let batch = stage.caller.batch(at: "a") {
                $0.add(.set, "a", [Bytes("1".utf8)])
                $0.add(.set, "b", [Bytes("1".utf8)])
            }
            when(stage, { stage.caller[batch] != nil }) {
                let times = ["a", "b"].map { past(stage, $0, asOf: Timestamp(rawValue: .max)).timestamp }
                #expect(times[0] == times[1] && times[0] > .zero && times[0] <= stage.node.clock.last)
                #expect(place(stage, "a").store.newestTimestamp >= times[0])
                stage.finish()
            }
        }
    }

    @Test("what a transaction has changed has its timestamp on every shard")
    func transactionsAreOneMoment() throws {
        try tell(shards: 2) { stage in
            let keys = stage.pair("a")
            let run = MortalDriver(
                stage, id: 7, priority: 1,
                parts: [keys.0, keys.1].map { key in .init(at: key) { $0.add(.incrementBy, key, numbers: [5]) } })
            run.begin()
            when(stage, { run.answer != nil && stage.isQuiet }) {
                guard case .committed(let timestamp, missing: []) = run.answer else {
                    Issue.record("\(String(describing: run.answer))")
                    return stage.finish()
                }
                for key in [keys.0, keys.1] {
                    #expect(past(stage, key, asOf: timestamp).timestamp == timestamp)
                    #expect(past(stage, key, asOf: timestamp).text == "5")
                    #expect(past(stage, key, asOf: Timestamp(rawValue: timestamp.rawValue - 1)).text == nil)
                }
                stage.finish()
            }
        }
    }

    @Test("sub-records of a deleted key stay as long as the past shows them")
    func garbageWaits() throws {
        try tell { stage in
            let fields = (0..<200).flatMap { [Bytes("field\($0)".utf8), Bytes("value".utf8)] }
            stage.caller.call(.hashSet, "h", fields)
            when(stage, { stage.caller.isSettled }) {
                stage.caller.call(.delete, "h")
                when(stage, { stage.caller.isSettled }) {
                    let executor = stage.node.executors[0], store = executor.store
                    for _ in 0..<3 { executor.maintain() }
                    #expect(executor.runtime.statistics.collectedGenerations == 0)
                    #expect(subRecords(of: "h", stage) == 200)
                    store.raiseFloor(to: store.newestTimestamp)
                    when(stage, { subRecords(of: "h", stage) == 0 }) { stage.finish() }
                }
            }
        }
    }

    private func subRecords(of key: String, _ stage: Stage) -> Int {
        let place = place(stage, key)
        var from = ByteBuffer(capacity: 16), count = 0
        let bucket = BucketID(rawValue: UInt16(place.record[0]) << 8 | UInt16(place.record[1]))
        NativeKeyLayout.appendPrefix(bucket, .redisHashes, into: &from)
        let start = from.readable.bytes
        NativeKeyLayout.makeRangeEnd(&from)
        try? start.withUnsafeBytes { start in
            try place.store.scan(from: start, to: from.readable) { _, _ in
                count += 1
                return true
            }
        }
        return count
    }
}
