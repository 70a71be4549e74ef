import Base
import Contracts
import DataModel

/// Where slots live, as far as dividing a plan needs it.
struct ShardPlaces {
    /// One slot of each shard.
    let slots: [UInt32]
    /// The position of the shard that owns a slot; nil while no map is known.
    let shard: (UInt32) -> Int?
    /// The first slot of a bucket: where a scan goes on.
    let firstSlot: (Int) -> UInt32
    /// The slot of a key of a database, or of the record that it names.
    var slot: (UInt8, ByteView) -> UInt32 = { UInt32(Slot.of($1).rawValue) }

    func slot(of key: Bytes, in database: UInt8) -> UInt32 { key.withView { slot(database, $0) } }
}

/// A plan divided among shards: what each has to do, and how their replies become those of the plan's calls.
///
/// Calls over several keys whose replies can be put together again (DEL, MGET, MSET …) are done in pieces, and so are
/// those for whole databases. Other calls have their keys on one shard: those that had not are replaced before
/// (`PlanGathering`).
struct PlanDivision {
    /// A call, or what it asks of one shard.
    struct Piece: Hashable {
        /// Its position in the plan.
        let call: Int
        /// Which keys of the call; nil: the call as it is.
        let keys: [Int]?
    }

    /// What one shard has to do.
    struct Share: Hashable {
        /// Its position among the shards, and a slot of it.
        let shard: Int, slot: UInt32
        /// Positions of the plan's watches.
        var watches: [Int] = []
        var pieces: [Piece] = []
    }

    let plan: TransactionPlan
    /// In the order in which they come up.
    private(set) var shares: [Share] = []
    /// MSETNX over several shards: none of its keys may exist.
    private(set) var demandsAbsence = false

    init(_ plan: TransactionPlan, _ places: ShardPlaces) throws(DatabaseError) {
        self.plan = plan
        for (position, watch) in plan.watches.enumerated() {
            let share = try share(places.slot(of: watch.key, in: watch.database), places)
            shares[share].watches.append(position)
        }
        for position in plan.calls.indices { try add(position, places) }
    }

    /// The position of the share of the shard that owns `slot`.
    private mutating func share(_ slot: UInt32, _ places: ShardPlaces) throws(DatabaseError) -> Int {
        guard let shard = places.shard(slot) else {
            throw DatabaseError(.unavailable, "The shard map is not known yet")
        }
        if let position = shares.firstIndex(where: { $0.shard == shard }) { return position }
        shares.append(Share(shard: shard, slot: slot))
        return shares.count - 1
    }

    private mutating func add(_ position: Int, _ places: ShardPlaces) throws(DatabaseError) {
        let call = plan.calls[position]
        switch call.target {
        case .key:
            try add(Piece(call: position, keys: nil), places.slot(of: call.key, in: call.database), places)
        case .keys: try addKeys(position, places)
        case .everyShard, .anyShard:
            guard !places.slots.isEmpty else { throw DatabaseError(.unavailable, "The shard map is not known yet") }
            for slot in places.slots { try add(Piece(call: position, keys: nil), slot, places) }
        case .cursor:
            let cursor = ScanCursor(rawValue: UInt64(bitPattern: call.numbers.first ?? 0))
            let slot = places.slots.count > 1 ? places.firstSlot(Int(cursor?.bucket.rawValue ?? 0)) : places.slots.first
            try add(Piece(call: position, keys: nil), slot ?? 0, places)
        }
    }

    private mutating func add(_ piece: Piece, _ slot: UInt32, _ places: ShardPlaces) throws(DatabaseError) {
        let share = try share(slot, places)
        shares[share].pieces.append(piece)
    }

    private mutating func addKeys(_ position: Int, _ places: ShardPlaces) throws(DatabaseError) {
        let call = plan.calls[position], slots = call.keys.map { places.slot(of: $0, in: call.database) }
        guard let first = slots.first else { throw .crossShard }
        guard slots.contains(where: { places.shard($0) != places.shard(first) }) else {
            return try add(Piece(call: position, keys: nil), first, places)
        }
        guard call.isDivisible(aloneIn: plan) else { throw .crossShard }
        if call.flags != 0 { demandsAbsence = true }
        var pieces: [(share: Int, keys: [Int])] = []
        for (key, slot) in slots.enumerated() {
            let share = try share(slot, places)
            if let index = pieces.firstIndex(where: { $0.share == share }) {
                pieces[index].keys.append(key)
            } else {
                pieces.append((share, [key]))
            }
        }
        for piece in pieces { shares[piece.share].pieces.append(Piece(call: position, keys: piece.keys)) }
    }

    /// No part of it writes.
    var isReadOnly: Bool { !plan.calls.contains { $0.method.isWrite } }

    // MARK: Parts

    /// The share as its shard is told of it.
    func encode(_ share: Share, into encoder: inout CallBatchEncoder) {
        for position in share.watches {
            let watch = plan.watches[position]
            watch.key.withView { key in
                if let version = watch.version {
                    encoder.append(watch: key, database: watch.database, version: version)
                } else {
                    encoder.append(absent: key, database: watch.database)
                }
            }
        }
        let pieces = share.pieces.map { ($0, plan.calls[$0.call]) }
        if demandsAbsence {
            for (piece, call) in pieces {
                for key in piece.keys ?? [] {
                    call.keys[key].withView { encoder.append(absent: $0, database: call.database) }
                }
            }
        }
        for (piece, call) in pieces {
            var (key, arguments) = (call.key, call.arguments)
            if let keys = piece.keys {
                let words = keys.flatMap { call.words(ofKey: $0) }
                (key, arguments) = (words[0], Array(words[1...]))
            }
            let flags = demandsAbsence ? 0 : call.flags
            Self.append(key, arguments, flags, of: call, to: &encoder)
        }
    }

    private static func append(
        _ key: Bytes, _ arguments: [Bytes], _ flags: UInt32, of call: CallSnapshot,
        to encoder: inout CallBatchEncoder
    ) {
        // The encoder wants views of all at once.
        var room = ByteBuffer(capacity: 1024), views: [ByteView] = [], start = key.count
        room.append(key)
        for argument in arguments { room.append(argument) }
        let bytes = room.readable
        for argument in arguments {
            views.append(ByteView(rebasing: bytes[start..<start + argument.count]))
            start += argument.count
        }
        call.numbers.withUnsafeBufferPointer { numbers in
            views.withUnsafeBufferPointer { arguments in
                encoder.append(
                    method: call.method, database: call.database, key: ByteView(rebasing: bytes[..<key.count]),
                    flags: flags, numbers: numbers, arguments: arguments)
            }
        }
    }

    // MARK: Replies

    /// Puts the replies together: one for each call of the plan, under its position. `batches` are those of the shares,
    /// in their order; false when they are not what was asked for. `random` chooses among keys for RANDOMKEY.
    func merge(_ batches: [Bytes], random: UInt64, into encoder: ReplyBatchEncoder) -> Bool {
        var merges = plan.calls.map { ReplyMerge($0, demandsAbsence: demandsAbsence, random: random) }
        guard batches.count == shares.count else { return false }
        for (share, batch) in zip(shares, batches) {
            var position = 0, isSound = true, decoder = ReplyBatchDecoder()
            let isRead = batch.withView { view in
                (try? decoder.decode(view) { reply in
                    guard position < share.pieces.count else {
                        isSound = false
                        return
                    }
                    let piece = share.pieces[position]
                    merges[piece.call].add(reply, keys: piece.keys)
                    position += 1
                }) != nil
            }
            guard isRead, isSound, position == share.pieces.count else { return false }
        }
        for (position, merge) in merges.enumerated() { merge.finish(UInt64(position), encoder) }
        return true
    }
}

extension CallSnapshot {
    /// Whether it can be done in pieces, each with some of its keys. MSETNX can where nothing else is in the plan.
    func isDivisible(aloneIn plan: TransactionPlan) -> Bool {
        guard method == .multiSet else { return [.delete, .exists, .touch, .multiGet].contains(method) }
        return flags == 0 || (plan.calls.count == 1 && plan.watches.isEmpty)
    }

    /// The key at that position, with the value behind it if it has one.
    fileprivate func words(ofKey position: Int) -> [Bytes] {
        method == .multiSet ? [word(2 * position), word(2 * position + 1)] : [word(position)]
    }

    /// Not from an array of all: a command may have a million of them.
    private func word(_ position: Int) -> Bytes { position == 0 ? key : arguments[position - 1] }
}

/// The replies to the pieces of a call, on their way to be one.
struct ReplyMerge {
    enum Kind { case single, sum, done, values, concatenation, anyOne }

    private enum Value { case null, integer(Int64), number(Double), data(Bytes) }

    private enum Whole { case null, ok, integer(Int64), number(Double), data(Bytes), list([Value]) }

    private static let kinds: [Method: Kind] = [
        .delete: .sum, .exists: .sum, .touch: .sum, .databaseSize: .sum, .multiSet: .done, .flushDatabase: .done,
        .flushAll: .done, .multiGet: .values, .keys: .concatenation, .randomKey: .anyOne,
    ]

    private let kind: Kind
    private let isCondition: Bool
    private let random: UInt64
    private var sum: Int64 = 0
    /// Of a key that somebody else had locked.
    private var isSkipped = false
    private var items: [Value] = []
    private var failure: DatabaseError?
    /// The only reply, or the last of many that are alike.
    private var whole = Whole.null

    /// A reply that stays as it is.
    init(_ reply: borrowing ReplyView) {
        (kind, isCondition, random) = (.single, false, 0)
        add(reply, keys: nil)
    }

    init(_ call: CallSnapshot, demandsAbsence: Bool, random: UInt64) {
        kind = Self.kinds[call.method] ?? .single
        (isCondition, self.random) = (demandsAbsence, random)
        if kind == .values { items = Array(repeating: .null, count: call.keys.count) }
    }

    mutating func add(_ reply: borrowing ReplyView, keys: [Int]?) {
        switch (kind, reply.kind) {
        case (_, .error): failure = reply.error
        case (.sum, .integer): sum &+= reply.integer
        case (.sum, .null): isSkipped = true
        case (.values, .list):
            var values = reply.items, position = 0
            while let item = values.next() {
                let place = keys.map { position < $0.count ? $0[position] : -1 } ?? position
                if items.indices.contains(place) { items[place] = Self.value(item) }
                position += 1
            }
        case (.concatenation, .list):
            var values = reply.items
            while let item = values.next() { items.append(Self.value(item)) }
        case (.anyOne, .data): items.append(.data(reply.data.bytes))
        case (.anyOne, .null): break
        case (.done, _), (.single, _): whole = Self.whole(reply)
        case (.sum, _), (.values, _), (.concatenation, _), (.anyOne, _):
            failure = DatabaseError(.internalFailure, "A shard answered with something else than was asked")
        }
    }

    func finish(_ id: UInt64, _ encoder: ReplyBatchEncoder) {
        if let failure { return encoder.error(id, failure) }
        switch kind {
        case .sum where isSkipped: encoder.null(id)
        case .sum: encoder.integer(id, sum)
        case .done where isCondition: encoder.integer(id, 1)
        case .done, .single: Self.append(whole, id, encoder)
        case .values, .concatenation: Self.append(items, id, encoder)
        case .anyOne where items.isEmpty: encoder.null(id)
        case .anyOne:
            guard case .data(let key) = items[Int(random % UInt64(items.count))] else { return encoder.null(id) }
            key.withView { encoder.data(id, $0) }
        }
    }

    private static func whole(_ reply: borrowing ReplyView) -> Whole {
        switch reply.kind {
        case .null, .error, .batch: return .null  // The last two are not met here.
        case .ok: return .ok
        case .integer: return .integer(reply.integer)
        case .number: return .number(reply.number)
        case .data: return .data(reply.data.bytes)
        case .list:
            var items = reply.items, values: [Value] = []
            while let item = items.next() { values.append(value(item)) }
            return .list(values)
        }
    }

    private static func append(_ whole: Whole, _ id: UInt64, _ encoder: ReplyBatchEncoder) {
        switch whole {
        case .null: encoder.null(id)
        case .ok: encoder.ok(id)
        case .integer(let value): encoder.integer(id, value)
        case .number(let value): encoder.number(id, value)
        case .data(let bytes): bytes.withView { encoder.data(id, $0) }
        case .list(let values): append(values, id, encoder)
        }
    }

    private static func append(_ values: [Value], _ id: UInt64, _ encoder: ReplyBatchEncoder) {
        encoder.beginList(id)
        for value in values { append(value, encoder) }
        encoder.endList()
    }

    private static func value(_ item: ReplyView.Item) -> Value {
        switch item {
        case .null: .null
        case .integer(let value): .integer(value)
        case .number(let value): .number(value)
        case .data(let view): .data(view.bytes)
        }
    }

    private static func append(_ item: Value, _ encoder: ReplyBatchEncoder) {
        switch item {
        case .null: encoder.listNull()
        case .integer(let value): encoder.listInteger(value)
        case .number(let value): encoder.listNumber(value)
        case .data(let bytes): bytes.withView { encoder.listData($0) }
        }
    }
}
