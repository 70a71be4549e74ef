import Base
import Contracts
import DataModel

/// Calls of a plan that need keys of several shards in one place: RENAME, COPY, BITOP, LCS, and MSETNX among others.
///
/// What they need is read first (`reading`), all at one moment. Then they are replaced by calls that each have their
/// keys on one shard, under the condition that what was read still holds (`resolve`). A reading that turns out to be
/// stale is done anew. So such a call must not depend on what the plan itself changes before it.
struct PlanGathering {
    /// The answer to a call of the plan.
    fileprivate enum Answer {
        case ok
        case integer(Int64)
        case error(DatabaseError)
        /// That of a call of the resolved plan.
        case call(Int)
    }

    /// What takes the place of the plan.
    struct Resolution {
        fileprivate(set) var plan = TransactionPlan()
        fileprivate var answers: [Answer] = []
    }

    /// A key and what is needed of it.
    fileprivate struct Need: Hashable {
        enum Extent: UInt32 { case all = 0, stringOnly = 1, nothing = 2 }

        let database: UInt8, key: Bytes, extent: Extent
    }

    private let plan: TransactionPlan
    /// What each call needs; nil for those that stay as they are.
    private let needs: [[Need]?]

    /// Nil when the plan has no such calls.
    init?(_ plan: TransactionPlan, _ places: ShardPlaces) throws(DatabaseError) {
        let needs = plan.calls.map { Self.needs($0, of: plan, places) }
        guard needs.contains(where: { $0 != nil }) else { return nil }
        (self.plan, self.needs) = (plan, needs)
        try refuseDependence()
    }

    /// Nil for a call that can be done as it is, or in pieces.
    private static func needs(_ call: CallSnapshot, of plan: TransactionPlan, _ places: ShardPlaces) -> [Need]? {
        guard call.target == .keys, !call.isDivisible(aloneIn: plan), !call.isOnOneShard(places) else { return nil }
        switch call.method {
        case .rename:
            guard let target = call.arguments.first else { return nil }
            let source = Need(database: call.database, key: call.key, extent: .all)
            let mayReplace = call.flags & 1 == 0
            return mayReplace ? [source] : [source, Need(database: call.database, key: target, extent: .nothing)]
        case .copy:
            guard let target = call.arguments.first else { return nil }
            let source = Need(database: call.database, key: call.key, extent: .all)
            return call.flags & 1 != 0
                ? [source] : [source, Need(database: call.targetDatabase, key: target, extent: .nothing)]
        case .bitOperation:
            return call.arguments.map { Need(database: call.database, key: $0, extent: .stringOnly) }
        case .longestCommonSubsequence:
            return [call.key, call.arguments.first ?? []].map {
                Need(database: call.database, key: $0, extent: .stringOnly)
            }
        case .multiSet: return call.keys.map { Need(database: call.database, key: $0, extent: .nothing) }
        case _: return nil  // No other command has keys that cannot be divided.
        }
    }

    private static let dependent = DatabaseError(
        .crossShard,
        "RENAME, RENAMENX, COPY, BITOP, LCS and MSETNX over keys of several shards cannot follow a command of the same "
            + "transaction that writes one of their keys")

    private func refuseDependence() throws(DatabaseError) {
        var written: Set<Need> = [], isAllWritten = false
        for (call, needs) in zip(plan.calls, needs) {
            for need in needs ?? [] {
                let name = Need(database: need.database, key: need.key, extent: .nothing)
                guard !isAllWritten, !written.contains(name) else { throw Self.dependent }
            }
            guard call.method.isWrite else { continue }
            if call.method.isKeyless { isAllWritten = true }
            for (database, key) in call.names { written.insert(Need(database: database, key: key, extent: .nothing)) }
        }
    }

    // MARK: Reading

    private var needed: [Need] { needs.flatMap { $0 ?? [] } }

    /// Asks for all that is needed, if what the client watches still holds.
    var reading: TransactionPlan {
        var reading = TransactionPlan(watches: plan.watches)
        for need in needed {
            reading.calls.append(
                CallSnapshot(
                    method: .dump, target: .key, database: need.database, key: need.key, flags: need.extent.rawValue,
                    numbers: [], arguments: [], keys: [need.key]))
        }
        return reading
    }

    /// A key as it was found.
    fileprivate struct Found {
        let need: Need
        let version: UInt64?, kind: Int64?, flags: Int64, expiresAt: Int64
        let value: [Bytes]
        let error: DatabaseError?

        var exists: Bool { kind != nil }
        var isString: Bool { kind == 1 }
        /// What holds as long as it is as it was found. An absent key has a version, too, but absence says it better.
        var watch: TransactionPlan.Watch {
            .init(database: need.database, key: need.key, version: exists ? version : nil)
        }

        init(_ need: Need, _ reply: borrowing ReplyView) {
            self.need = need
            var numbers: [Int64] = [], value: [Bytes] = [], items = reply.items
            while reply.kind == .list, let item = items.next() {
                switch item {
                case .integer(let number): numbers.append(number)
                case .data(let data): value.append(data.bytes)
                case .null, .number: break
                }
            }
            version = numbers.first.map { UInt64(bitPattern: $0) }
            kind = numbers.count == 4 ? numbers[1] : nil
            (flags, expiresAt) = numbers.count == 4 ? (numbers[2], numbers[3]) : (0, 0)
            self.value = value
            error =
                reply.kind == .error
                ? reply.error
                : version == nil
                    ? DatabaseError(.internalFailure, "A shard answered with something else than was asked") : nil
        }
    }

    /// What is to be done, from the encoded replies to `reading`. Nil when they are not what was asked for.
    func resolve(_ replies: ByteView) -> Resolution? {
        let needed = needed
        var found: [Found] = [], decoder = ReplyBatchDecoder(), isSound = true
        let isRead: Void? = try? decoder.decode(replies) { reply in
            guard found.count < needed.count else {
                isSound = false
                return
            }
            found.append(Found(needed[found.count], reply))
        }
        guard isRead != nil, isSound, found.count == needed.count else { return nil }
        var resolution = Resolution(), next = 0
        resolution.plan.watches = plan.watches
        for (call, needs) in zip(plan.calls, needs) {
            guard let needs else {
                resolution.append(call)
                continue
            }
            resolution.resolve(call, found[next..<next + needs.count])
            next += needs.count
        }
        if !needs.contains(where: { $0 == nil }), !resolution.plan.calls.contains(where: { $0.method.isWrite }) {
            resolution.plan.watches = []  // All was read at one moment, and nothing is changed.
        }
        return resolution
    }
}

// MARK: - Resolving

extension PlanGathering.Resolution {
    fileprivate mutating func append(_ call: CallSnapshot) {
        answers.append(.call(plan.calls.count))
        plan.calls.append(call)
    }

    fileprivate mutating func resolve(_ call: CallSnapshot, _ found: ArraySlice<PlanGathering.Found>) {
        if let error = found.lazy.compactMap(\.error).first { return answers.append(.error(error)) }
        switch call.method {
        case .rename: move(call, found)
        case .copy: copy(call, found)
        case .multiSet: set(call, found)
        case .bitOperation:
            hold(found)
            guard found.allSatisfy({ !$0.exists || $0.isString }) else { return answers.append(.error(Self.wrongType)) }
            append(call.replaced(.bitOperationOfValues, arguments: found.map { $0.value.first ?? [] }))
        case _:
            hold(found)
            guard found.allSatisfy({ !$0.exists || $0.isString }) else { return answers.append(.error(Self.lcsTypes)) }
            append(call.replaced(.longestCommonSubsequenceOfValues, arguments: found.map { $0.value.first ?? [] }))
        }
    }

    private static let noSuchKey = DatabaseError(.noSuchKey, "no such key")
    private static let wrongType = DatabaseError(
        .wrongType, "Operation against a key holding the wrong kind of value")
    private static let lcsTypes = DatabaseError(.invalidArgument, "The specified keys must contain string values")

    private mutating func hold(_ found: ArraySlice<PlanGathering.Found>) { plan.watches += found.map(\.watch) }

    /// RENAME and RENAMENX: the first is the source, the second, if there is one, must be absent.
    private mutating func move(_ call: CallSnapshot, _ found: ArraySlice<PlanGathering.Found>) {
        hold(found)
        guard let source = found.first, source.exists else { return answers.append(.error(Self.noSuchKey)) }
        guard !found.dropFirst().contains(where: \.exists) else { return answers.append(.integer(0)) }
        plan.calls.append(source.deletion)
        plan.calls.append(source.installation(call.arguments[0], call.database, flags: 1))
        answers.append(found.count > 1 ? .integer(1) : .ok)
    }

    private mutating func copy(_ call: CallSnapshot, _ found: ArraySlice<PlanGathering.Found>) {
        hold(found)
        guard let source = found.first, source.exists, !found.dropFirst().contains(where: \.exists) else {
            return answers.append(.integer(0))
        }
        plan.calls.append(source.installation(call.arguments[0], call.targetDatabase, flags: 2))
        answers.append(.integer(1))
    }

    /// MSETNX: one that exists is enough to set none.
    private mutating func set(_ call: CallSnapshot, _ found: ArraySlice<PlanGathering.Found>) {
        if let present = found.first(where: \.exists) {
            plan.watches.append(present.watch)
            return answers.append(.integer(0))
        }
        hold(found)
        plan.calls.append(call.replaced(.multiSet, arguments: call.arguments))
        answers.append(.integer(1))
    }

    /// Puts the answers to the calls of the first plan together from those of this one, which are encoded. False when
    /// they are not what was asked for.
    func answer(_ replies: ByteView, into encoder: ReplyBatchEncoder) -> Bool {
        var given: [ReplyMerge] = [], decoder = ReplyBatchDecoder()
        guard (try? decoder.decode(replies) { given.append(ReplyMerge($0)) }) != nil, given.count == plan.calls.count
        else { return false }
        for (position, answer) in answers.enumerated() {
            let id = UInt64(position)
            switch answer {
            case .ok: encoder.ok(id)
            case .integer(let value): encoder.integer(id, value)
            case .error(let error): encoder.error(id, error)
            case .call(let call): given[call].finish(id, encoder)
            }
        }
        return true
    }
}

extension PlanGathering.Found {
    fileprivate var deletion: CallSnapshot {
        CallSnapshot(
            method: .delete, target: .key, database: need.database, key: need.key, flags: 1, numbers: [], arguments: [],
            keys: [need.key])
    }

    /// Gives another key what was found.
    fileprivate func installation(_ key: Bytes, _ database: UInt8, flags callFlags: UInt32) -> CallSnapshot {
        CallSnapshot(
            method: .install, target: .key, database: database, key: key, flags: callFlags,
            numbers: [kind ?? 0, flags, expiresAt], arguments: value, keys: [key])
    }
}

extension CallSnapshot {
    fileprivate func isOnOneShard(_ places: ShardPlaces) -> Bool {
        guard let first = keys.first else { return true }
        let shard = places.shard(places.slot(of: first, in: database))
        return keys.allSatisfy { places.shard(places.slot(of: $0, in: database)) == shard }
    }

    /// Of COPY: the database of the copy.
    fileprivate var targetDatabase: UInt8 {
        guard let number = numbers.first, number >= 0 else { return database }
        return UInt8(truncatingIfNeeded: number)
    }

    /// The keys that it may change, with their databases.
    fileprivate var names: [(database: UInt8, key: Bytes)] {
        let known = target == .keys ? keys : [key]
        switch method {
        case .move: return [(database, key), (UInt8(truncatingIfNeeded: numbers.first ?? 0), key)]
        case .bitOperation: return [(database, key)]
        case .copy: return arguments.prefix(1).map { (targetDatabase, $0) }  // The source stays as it is.
        case _: return known.map { (database, $0) }
        }
    }

    /// The same without flags that are heeded already: another method, done where `key` is.
    fileprivate func replaced(_ method: Method, arguments: [Bytes]) -> CallSnapshot {
        CallSnapshot(
            method: method, target: method == .multiSet ? .keys : .key, database: database, key: key,
            flags: method == .multiSet ? 0 : flags, numbers: numbers, arguments: arguments,
            keys: method == .multiSet ? keys : [key])
    }
}
