import Testing

import Orbit

@Suite("Table of actors")
struct ActorTableTests {
    private let now: UInt64 = 1_700_000_100_000

    private func row(_ key: String, shard: UInt32 = 0, ago: UInt64 = 9_000, isPending: Bool = false) -> ActorTable.Row {
        ActorTable.Row(
            key: Array(key.utf8), type: "string", database: 0, shard: shard, term: 3, process: "storage-node-1",
            activeSince: now - ago, lastCalled: now - ago / 3, bytes: 416, isPending: isPending)
    }

    @Test("shows actors by shard and key, and whether there are more")
    func rows() {
        var table = ActorTable(
            rows: [row("b"), row("z", shard: 1, ago: 600_000, isPending: true), row("a\n\\é")], isComplete: true)
        let lines = [
            "KEY              TYPE    DB  SHARD  TERM  NODE            ACTIVE  IDLE   SIZE   PENDING",
            "a\\x0a\\\\\\xc3\\xa9  string  0   0      3     storage-node-1  9 s     3 s    416 B  no",
            "b                string  0   0      3     storage-node-1  9 s     3 s    416 B  no",
            "z                string  0   1      3     storage-node-1  10 min  3 min  416 B  yes",
        ]
        #expect(table.lines(now: now) == lines)
        table.isComplete = false
        #expect(table.lines(now: now).last == "… and more: --limit N shows more")
        #expect(ActorTable(rows: [], isComplete: true).lines(now: now).count == 1)
    }

    @Test("as JSON it has the same, with times")
    func document() {
        let table = ActorTable(rows: [row("k")], isComplete: false)
        #expect(
            table.document.encoded()
                == #"{"actors":[{"key":"k","database":0,"shard":0,"term":3,"process":"storage-node-1","#
                + #""type":"string","activeSince":1700000091000,"lastCalled":1700000097000,"bytes":416,"#
                + #""pending":false}],"complete":false}"#)
    }

    @Test("shows where an actor lives, in memory or not")
    func place() {
        func place(_ actor: ActorTable.Row?) -> ActorTable.Place {
            ActorTable.Place(
                key: [], database: 2, bucket: 17, shard: 1, node: 3, process: "storage-node-2",
                addresses: ["unix:/n2"], term: 4, actor: actor)
        }
        #expect(
            place(nil).lines(now: now) == [
                "KEY  DB  BUCKET  SHARD  TERM  NODE            TYPE  ACTIVE      IDLE  SIZE  PENDING",
                "\"\"   2   17      1      4     storage-node-2  -     not active  -     -     -",
            ])
        #expect(place(row("k")).lines(now: now).last?.hasSuffix("string  9 s     3 s   416 B  no") == true)
        #expect(place(nil).document["active"]?.bool == false && place(nil).document["type"] == nil)
        #expect(place(row("k")).document["lastCalled"]?.integer == 1_700_000_097_000)
    }
}
