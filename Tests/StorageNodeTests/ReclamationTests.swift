import Base
import DataModel
import Storage
import TestKit
import Testing

@testable import StorageNode

/// What a node does when its stores are to let go of what nobody may read.
@Suite("Reclamation", .serialized)
struct ReclamationTests {
    /// Versions and records of keys in the store of a shard.
    private static func count(_ store: any Store) throws -> (versions: Int, fields: Int) {
        let scan = try store.scan(from: [], to: [])
        var found = (versions: 0, fields: 0)
        while scan.isValid {
            if HistoryKey.isHistory(scan.key) { found.versions += 1 }
            if case .hashField? = NativeKey(parsing: scan.key) { found.fields += 1 }
            scan.next()
        }
        try scan.check()
        return found
    }

    @Test("superseded versions and what deleted keys have left go at once, when nobody holds the past any more")
    func versions() throws {
        try Stage.withDirectory { directory in
            let store = MemoryStore()
            try Stage.run(
                directory, settings: { $0.history.retentionMilliseconds = 1 }, store: store
            ) { stage in
                let caller = stage.caller, shard = stage.node.executors[0].store
                let hold = shard.hold(at: shard.historyFloor, untilMilliseconds: .max)
                #expect(hold != nil)
                for number in 0..<20 {
                    caller.set("key\(number)", "1")
                    for field in 0..<300 {
                        caller.call(.hashSet, "hash\(number)", [Bytes("f\(field)".utf8), Bytes("v".utf8)])
                    }
                }
                /// Written, superseded while the past is held, then let go.
                func supersede() {
                    for number in 0..<20 {
                        caller.set("key\(number)", "2")
                        caller.call(.delete, "hash\(number)")
                    }
                    caller.onOutcome = { _, _ in
                        guard caller.isSettled else { return }
                        stage.node.flusher?.flushOnce { reclaim(isHeld: true) }
                    }
                }
                func reclaim(isHeld: Bool) {
                    stage.node.reclaim(nil, rewrites: false) { error in
                        #expect(error == nil)
                        do {
                            let found = try Self.count(store)
                            if isHeld {
                                #expect(found.versions >= 20 && found.fields > 0)
                                if let hold { shard.release(hold) }
                                return reclaim(isHeld: false)
                            }
                            #expect(found == (0, 0))
                        } catch {
                            Issue.record(error)
                        }
                        stage.finish()
                    }
                }
                caller.onOutcome = { _, _ in
                    if caller.isSettled { stage.node.flusher?.flushOnce { supersede() } }
                }
            }
        }
    }
}
