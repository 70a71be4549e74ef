import Base
import Contracts
import DataModel
import Engine
import GatewayKit

/// Changes of rows of schema `redis`: commands on native keys, all of one statement to the shards.
final class KeyspaceWrite: RowWriting {
    /// What a change comes to: one call, or two.
    private struct Step {
        let position: Int
        let key: KeyspaceKey
        let fresh: KeyspaceRecords.Fresh
    }

    private let keeper: RowKeeper
    private let records: KeyspaceRecords
    private let changes: [RowChange]
    private var isSent = false
    private var outcomesSoFar: [RowOutcome]
    private var result: Result<[RowOutcome], StatementError>?

    init(_ keeper: RowKeeper, _ table: KeyspaceTables.Table, _ changes: [RowChange]) {
        (self.keeper, self.changes) = (keeper, changes)
        records = KeyspaceRecords(table, nil)
        outcomesSoFar = Array(repeating: .absent, count: changes.count)
    }

    func outcomes() throws(StatementError) -> [RowOutcome]? {
        if changes.isEmpty { return [] }
        if !isSent {
            isSent = true
            try send()
        }
        return try result?.get()
    }

    // MARK: Calls

    private func send() throws(StatementError) {
        var steps: [Step] = []
        for (position, change) in changes.enumerated() { steps.append(try step(change, position)) }
        let division = try keeper.divide(slots: steps.map(\.key.slot))
        let shares = division.map { share in
            var builder = RowCallBuilder()
            for place in share.positions { append(steps[place], to: &builder) }
            return InteractiveRun.Share(slot: share.slot, body: builder.body, isWrite: true)
        }
        keeper.perform(shares) { [self] result in
            do throws(StatementError) {
                let batches = try result.get()
                try take(batches, division.map { $0.positions.map { steps[$0] } })
            } catch {
                self.result = .failure(error)
            }
        }
    }

    private func step(_ change: RowChange, _ position: Int) throws(StatementError) -> Step {
        guard let key = KeyspaceKey(decoding: change.key) else {
            throw StatementError(
                .numericValueOutOfRange, "db must be from 0 to \(KeyspaceTables.databaseCount - 1)")
        }
        if let collection = keeper.record(namedBy: key) {
            throw StatementError(
                .wrongObjectType, "key \(key.shown) names a record of table \"\(collection.name)\"",
                hint: "Write to the table.")
        }
        if records.table == .keys, change.mode == .insert || change.mode == .upsert {
            throw StatementError(
                .featureNotSupported, "cannot insert into \"keys\"",
                detail: "A key is there because it holds something.",
                hint: "Insert into redis.strings or redis.hashes.")
        }
        let fresh = change.mode == .delete ? KeyspaceRecords.Fresh() : try records.read(change.record)
        return Step(position: position, key: key, fresh: fresh)
    }

    private func append(_ step: Step, to builder: inout RowCallBuilder) {
        let (key, mode) = (step.key, changes[step.position].mode)
        func call(_ method: Method, _ arguments: [Bytes] = [], _ flags: UInt32 = 0, _ numbers: [Int64] = []) {
            builder.append(
                method, database: key.database, key: key.key, flags: flags, numbers: numbers, arguments: arguments)
        }
        switch (records.table, mode) {
        case (.hashes, .delete): call(.hashDelete, [key.field ?? []])
        case (.hashes, _): call(.hashSet, [key.field ?? [], step.fresh.text], mode == .insert ? 1 : 0)
        case (_, .delete): call(.delete)
        case (.strings, _):
            var flags: SetFlags = mode == .insert ? .ifAbsent : mode == .update ? .ifPresent : []
            if step.fresh.expiresAt != nil { flags.insert(.absoluteTime) }
            call(.set, [step.fresh.text], flags.rawValue, step.fresh.expiresAt.map { [$0] } ?? [])
        case (.keys, _):
            // What the key is cannot be changed: it is asked for first.
            call(.dump, [], 2)
            if let time = step.fresh.expiresAt { call(.expire, [], 0, [time]) } else { call(.persist) }
        }
    }

    /// How many calls each step has made.
    private func callCount(_ step: Step) -> Int {
        records.table == .keys && changes[step.position].mode != .delete ? 2 : 1
    }

    // MARK: Replies

    private func take(_ batches: [Bytes], _ steps: [[Step]]) throws(StatementError) {
        // Of each call, its step; nil for the second one.
        let calls: [[Step?]] = steps.map { $0.flatMap { callCount($0) == 2 ? [$0, nil] : [$0] } }
        var taken: [Int] = [], made: [Step] = []
        try RowKeeper.read(batches) { (share, call, reply) throws(StatementError) in
            guard calls[share].indices.contains(call) else { throw RowKeeper.malformed }
            guard let step = calls[share][call] else { return }
            let mode = changes[step.position].mode
            switch (records.table, reply.kind) {
            case (.keys, .list):
                outcomesSoFar[step.position] = try checkType(reply, step) ? .done : .absent
            case (.hashes, .integer) where mode == .insert || mode == .delete:
                if reply.integer != 0 {
                    outcomesSoFar[step.position] = .done
                } else if mode == .insert {
                    taken.append(step.position)
                }
            case (.hashes, .integer):
                // An update of a field that is not there has made it, and must not have.
                if mode == .update, reply.integer != 0 {
                    made.append(step)
                } else {
                    outcomesSoFar[step.position] = .done
                }
            case (_, .ok): outcomesSoFar[step.position] = .done
            case (_, .integer): outcomesSoFar[step.position] = reply.integer != 0 ? .done : .absent
            case (.strings, .null): if mode == .insert { taken.append(step.position) }
            case (_, _): throw RowKeeper.malformed
            }
        }
        try unmake(made, then: taken)
    }

    private func checkType(_ reply: borrowing ReplyView, _ step: Step) throws(StatementError) -> Bool {
        var items = reply.items
        guard case .integer? = items.next() else { throw RowKeeper.malformed }
        guard let second = items.next() else { return false }
        guard case .integer(let type) = second else { throw RowKeeper.malformed }
        guard KeyspaceRead.typeName(type) == step.fresh.text else {
            throw StatementError(
                .featureNotSupported, "the type of key \(step.key.shown) cannot be changed",
                hint: "Delete the key, and insert another one.")
        }
        return true
    }

    private func unmake(_ made: [Step], then taken: [Int]) throws(StatementError) {
        guard !made.isEmpty else { return try readTaken(taken) }
        let division = try keeper.divide(slots: made.map(\.key.slot))
        let shares = division.map { share in
            var builder = RowCallBuilder()
            for place in share.positions {
                let key = made[place].key
                builder.append(
                    .hashDelete, database: key.database, key: key.key, numbers: [], arguments: [key.field ?? []])
            }
            return InteractiveRun.Share(slot: share.slot, body: builder.body, isWrite: true)
        }
        keeper.perform(shares) { [self] result in
            do throws(StatementError) {
                try RowKeeper.read(try result.get()) { (_, _, _) throws(StatementError) in }
                try readTaken(taken)
            } catch {
                self.result = .failure(error)
            }
        }
    }

    /// An insert that found a row wants to know it.
    private func readTaken(_ taken: [Int]) throws(StatementError) {
        guard !taken.isEmpty else {
            result = .success(outcomesSoFar)
            return
        }
        let read = KeyspaceRead(keeper, records, taken.map { changes[$0].key }, keepsMissing: true)
        follow(read, taken)
    }

    private func follow(_ read: KeyspaceRead, _ taken: [Int]) {
        do throws(StatementError) {
            switch try read.next() {
            case .waiting: keeper.whenProgressed { [self] in follow(read, taken) }
            case .rows(let rows):
                for (position, record) in zip(taken, rows.records) {
                    // What is there is no string.
                    guard let record else { throw Self.wrongType }
                    outcomesSoFar[position] = .exists(record)
                }
                result = .success(outcomesSoFar)
            case .columns, .blocks, .end: throw RowKeeper.malformed
            }
        } catch {
            result = .failure(error)
        }
    }

    /// As a shard says it.
    private static let wrongType = StatementError(
        ofShard: DatabaseError(.wrongType, "Operation against a key holding the wrong kind of value"))
}
