import Backup
import Base
import TestKit
import Testing

/// A bucket's records divided into pieces, and compared with what somebody has already.
@Suite("Piece scan")
struct PieceScanTests {
    /// A piece as a receiver puts it together.
    struct Got: Hashable {
        var known: KnownPiece
        var records: Bytes
    }

    /// Runs a scan over `records`, as a caller that has `held`: what the bucket consists of then, and how many bytes
    /// travelled.
    static func scan(
        _ records: [Bytes: Bytes], held: [Got] = [], target: Int = 100
    ) throws -> (pieces: [Got], moved: Int) {
        var pieces: [Got] = []
        var moved = 0
        guard var scan = PieceScan(start: [0, 5], known: held.map(\.known), target: target) else {
            throw DatabaseError(.invalidArgument, "not known pieces")
        }
        let take = { (found: PieceFinding) in
            switch found {
            case .same(let place): pieces.append(held[place])
            case .changed(let from, let body, let count, let digest):
                moved += body.count
                #expect(count > 0 && Piece.digest(body) == digest)
                pieces.append(
                    Got(known: KnownPiece(from: from, size: UInt64(body.count), digest: digest), records: body.bytes))
            }
        }
        for key in records.keys.sorted(by: { $0.lexicographicallyPrecedes($1) }) {
            key.withUnsafeBytes { key in (records[key.bytes] ?? []).withUnsafeBytes { scan.add(key, $0, take) } }
        }
        scan.finish(take)
        #expect(scan.totalRecords == UInt64(records.count))
        #expect(scan.totalBytes == UInt64(pieces.reduce(0) { $0 + $1.records.count }))
        return (pieces, moved)
    }

    /// The records of pieces; checks that each lies in its piece.
    static func content(_ pieces: [Got]) throws -> [Bytes: Bytes] {
        var records: [Bytes: Bytes] = [:]
        var last: Bytes = []
        for (number, piece) in pieces.enumerated() {
            try piece.records.withUnsafeBytes { view in
                var reader = ByteReader(view)
                while !reader.isAtEnd {
                    let record = try #require(RecordBlock.next(&reader))
                    let key = record.key.bytes
                    #expect(last.lexicographicallyPrecedes(key) && !key.lexicographicallyPrecedes(piece.known.from))
                    if number + 1 < pieces.count {
                        #expect(key.lexicographicallyPrecedes(pieces[number + 1].known.from))
                    }
                    records[key] = record.value.bytes
                    last = key
                }
            }
        }
        return records
    }

    static func key(_ number: UInt64, _ random: inout SplitMix64) -> Bytes {
        var key: Bytes = [0, 5, 0, 0, 0, 1, 0]
        key += withUnsafeBytes(of: number.bigEndian) { Bytes($0) }.suffix(Int(1 + random.next(below: 4)))
        return key
    }

    static func value(_ random: inout SplitMix64) -> Bytes {
        let size = random.next(below: 20) == 0 ? random.next(below: 400) : random.next(below: 30)
        return (0..<size).map { _ in UInt8(truncatingIfNeeded: random.next()) }
    }

    @Test("after any changes, the pieces together are the records, and what did not change does not travel")
    func changes() throws {
        var random = SplitMix64(seed: freshSeed("piece scan"))
        for _ in 0..<60 {
            var records: [Bytes: Bytes] = [:]
            for _ in 0..<random.next(below: 200) {
                records[Self.key(random.next(), &random)] = Self.value(&random)
            }
            var (pieces, moved) = try Self.scan(records)
            #expect(try Self.content(pieces) == records)
            for _ in 0..<8 {
                let before = records
                for _ in 0..<random.next(below: 6) {
                    let some = records.keys.sorted { $0.lexicographicallyPrecedes($1) }
                    let old = some.isEmpty ? nil : some[Int(random.next(below: UInt64(some.count)))]
                    switch (random.next(below: 3), old) {
                    case (0, let old?): records[old] = nil
                    case (1, let old?): records[old] = Self.value(&random)
                    case _: records[Self.key(random.next(), &random)] = Self.value(&random)
                    }
                }
                let held = pieces
                (pieces, moved) = try Self.scan(records, held: held)
                #expect(try Self.content(pieces) == records)
                if before == records {
                    #expect(moved == 0 && pieces == held)
                }
            }
        }
    }

    @Test("pieces of another division, or of another time, are of use where they are equal, and do no harm")
    func anyKnownPieces() throws {
        var random = SplitMix64(seed: freshSeed("any known pieces"))
        for _ in 0..<60 {
            var records: [Bytes: Bytes] = [:]
            for _ in 0..<150 { records[Self.key(random.next(), &random)] = Self.value(&random) }
            var held: [Bytes: Got] = [:]
            for target in [40, 100, 300] {
                for piece in try Self.scan(records, target: target).pieces where random.next(below: 2) == 0 {
                    held[piece.known.from] = piece
                }
                if let some = records.keys.randomElement(using: &random) { records[some] = Self.value(&random) }
            }
            let known = held.values.sorted { $0.known.from.lexicographicallyPrecedes($1.known.from) }
            #expect(try Self.content(Self.scan(records, held: known).pieces) == records)
        }
    }

    @Test("one changed record of many moves one piece")
    func oneChange() throws {
        var random = SplitMix64(seed: freshSeed("one change"))
        var records: [Bytes: Bytes] = [:]
        for number in 0..<2000 { records[[0, 5, 1] + Bytes("key-\(100_000 + number)".utf8)] = Self.value(&random) }
        let first = try Self.scan(records, target: 1000)
        records[[0, 5, 1] + Bytes("key-100777".utf8)] = [1, 2, 3]
        let second = try Self.scan(records, held: first.pieces, target: 1000)
        #expect(second.moved > 0 && second.moved < 3000, "\(second.moved) of \(first.moved) bytes")
    }

    @Test("known pieces that are none are refused")
    func refused() {
        let digest = Bytes(repeating: 0, count: 32)
        let wrong: [[KnownPiece]] = [
            [KnownPiece(from: [0, 4], size: 1, digest: digest)],
            [KnownPiece(from: [0], size: 1, digest: digest)],
            [KnownPiece(from: [0, 5], size: 1, digest: [1])],
            [
                KnownPiece(from: [0, 5, 2], size: 1, digest: digest),
                KnownPiece(from: [0, 5, 1], size: 1, digest: digest),
            ],
            [
                KnownPiece(from: [0, 5, 2], size: 1, digest: digest),
                KnownPiece(from: [0, 5, 2], size: 1, digest: digest),
            ],
        ]
        for known in wrong {
            switch PieceScan(start: [0, 5], known: known) {
            case .some: Issue.record("\(known) was taken")
            case .none: break
            }
        }
    }
}
