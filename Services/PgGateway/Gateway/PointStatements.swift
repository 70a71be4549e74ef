import Base
import Contracts
import DataModel
import GatewayKit

/// A statement about one record at most, as a node has described it.
final class KnownPoint {
    let point: QueryReply.Point
    /// Of the request that it was learnt from: the same statement with other types is another one.
    let requestTypes: [ValueTypeForm]
    /// As they were inferred.
    let types: [DataType]
    /// Nil: not told so far.
    let columns: [ResultColumn]?
    let givesRows: Bool
    let tag: String

    init(
        _ point: QueryReply.Point, requestTypes: [ValueTypeForm], types: [DataType], columns: [ResultColumn]?,
        givesRows: Bool, tag: String
    ) {
        (self.point, self.requestTypes, self.types, self.columns) = (point, requestTypes, types, columns)
        (self.givesRows, self.tag) = (givesRows, tag)
    }
}

/// Statements about one record, sent to the shard that has it as one call: no node in between, no transaction. In a
/// transaction the same call goes to its home.
///
/// It may turn out that the node of the shard does not know the statement, or that its table has changed. Then nothing
/// was done, and the statement is sent as any other; the answer says anew how it is called.
extension NodePlanRunner {
    private static let pointLimit = 256
    /// Values of keys are read without the settings of a session: nodes name no keys whose text depends on them.
    private static let plainText = TextSettings()

    /// Remembers how a statement is called.
    func learn(_ point: QueryReply.Point, _ reply: QueryReply, _ request: QueryRequest) {
        guard !request.fingerprint.isEmpty, reply.cursor == 0 else { return }
        // Of a prepared statement they are known, and not told again.
        let forms = request.wantsColumns ? reply.parameterTypes : request.parameterTypes
        let types = forms.compactMap(Self.type)
        guard types.count == forms.count, types.count == request.parameters.count else { return }
        let columns = request.wantsColumns ? Self.columns(reply) : nil
        if request.wantsColumns, columns == nil { return }
        if points.count >= Self.pointLimit {
            points.removeAll(keepingCapacity: true)
            strange = []
        }
        points[request.fingerprint] = KnownPoint(
            point, requestTypes: request.parameterTypes, types: types, columns: columns,
            givesRows: reply.givesRows, tag: reply.tag)
    }

    /// Sends the statement that is under way to its record's shard; false if it has to go the other way.
    func callPoint(_ token: UInt64) -> Bool {
        guard let work, let known = points[work.request.fingerprint],
            known.requestTypes == work.request.parameterTypes,
            known.types.count == work.request.parameters.count,
            !work.request.wantsColumns || known.columns != nil || !known.givesRows,
            let key = key(known, work.request)
        else { return false }
        let slot = key.withUnsafeBytes { UInt32(Slot.ofPartition($0).rawValue) }
        guard work.isAlone || !isStrange(work.request.fingerprint, slot) else { return false }
        let name = key.withUnsafeBytes {
            RowKey.make(CollectionID(rawValue: known.point.collection), primaryKey: $0)
        }
        // The arguments behind one another, and where each begins.
        var flat = ByteBuffer(capacity: 64), ends = [known.point.program.count]
        flat.append(known.point.program)
        for parameter in work.request.parameters {
            if let value = parameter.value {
                value.withUnsafeBytes { PointParameter.append($0, isBinary: parameter.isBinary, to: &flat) }
            } else {
                PointParameter.append(nil, isBinary: false, to: &flat)
            }
            ends.append(flat.count)
        }
        let bytes = flat.readable
        var views: [ByteView] = [], start = 0
        for end in ends {
            views.append(ByteView(rebasing: bytes[start..<end]))
            start = end
        }
        let method: Method = known.point.writes ? .rowModify : .rowQuery
        let numbers = [Int64(bitPattern: known.point.version), 0]
        work.isPoint = true
        name.withUnsafeBytes { name in
            numbers.withUnsafeBufferPointer { numbers in
                views.withUnsafeBufferPointer { views in
                    guard work.isAlone else {
                        var call = CallBatchEncoder()
                        call.append(
                            method: method, database: RowKey.database, key: name, flags: 0, numbers: numbers,
                            arguments: views)
                        return callPoint(token, call.message.bytes, slot, work.request.lockTimeout)
                    }
                    router.call(
                        connection: connection, slot: slot, method: method, database: RowKey.database, key: name,
                        flags: 0, numbers: numbers, arguments: views, receiver: self, ticket: token)
                }
            }
        }
        return true
    }

    /// In a transaction.
    private func callPoint(_ token: UInt64, _ call: Bytes, _ slot: UInt32, _ lockTimeout: UInt32) {
        nameStatement()
        guard let work, let link else { return }
        link.point(call, slot: slot, number: work.request.statement, lockTimeout: lockTimeout) { [weak self] answer in
            guard let self, let work = self.work, work.token == token else { return }
            switch answer {
            case .said(let said):
                guard let known = points[work.request.fingerprint] else { return fail(token, Self.unasked) }
                said.withUnsafeBytes { answered(work, known, PointReply($0)) }
            case .reply(let reply): answered(token, reply, nil)
            case .unknown:
                if router.homeNode(forSlot: slot) != link.home { strange.insert(work.request.fingerprint) }
                again(token)
            case .failed(let error): fail(token, StatementError(error))
            }
        }
    }

    /// Another node than the transaction's home would have to know the statement, and has not known it once.
    private func isStrange(_ fingerprint: Bytes, _ slot: UInt32) -> Bool {
        guard strange.contains(fingerprint), let home = link?.home else { return false }
        return router.homeNode(forSlot: slot) != home
    }

    /// The end of a statement that has waited for a lock for long.
    func pointWaited(_ work: Work, _ reply: QueryReply) {
        guard let known = points[work.request.fingerprint] else { return fail(work.token, Self.unasked) }
        var said = ByteBuffer(capacity: 64)
        PointReply.appendDone(count: UInt8(clamping: reply.count ?? 0), row: reply.rows.first, to: &said)
        answered(work, known, PointReply(said.readable))
    }

    private static let unasked = StatementError(.internalError, "a shard has answered what was not asked")

    /// A read is not waited for any more; false: something else is under way. A write cannot be called back: it is
    /// done, or the shard refuses it soon, when it has waited for a lock.
    func interruptPoint(_ token: UInt64, _ reason: StatementError) -> Bool {
        guard let work, work.isPoint, work.isAlone else { return false }
        guard points[work.request.fingerprint]?.point.writes == false else { return true }
        loop.runLater { [weak self] in self?.fail(token, reason) }
        return true
    }

    /// The encoded primary key; nil where a value cannot be one, which the node has the words for.
    private func key(_ known: KnownPoint, _ request: QueryRequest) -> Bytes? {
        var key: Bytes = []
        for part in known.point.key {
            switch part {
            case .constant(let bytes): key += bytes
            case .fresh:
                var random = SystemRandom()
                key += KeyEncoding.encode([FreshKey.value(random.next())])
            case .parameter(let index, let form):
                guard request.parameters.indices.contains(index), let column = Self.type(form) else { return nil }
                let type = known.types[index], parameter = request.parameters[index]
                let value = parameter.value?.withUnsafeBytes { view in
                    parameter.isBinary
                        ? try? ValueBinary.decode(view, as: type)
                        : try? ValueText.parse(view, as: type, Self.plainText)
                }
                guard let value, !value.isNull else { return nil }
                key += KeyEncoding.encode([value.forKey(as: column)])
            }
        }
        return key
    }

    // MARK: Answers

    func completed(_ ticket: UInt64, _ reply: borrowing ReplyView) {
        guard let work, work.token == ticket else { return }
        guard let known = points[work.request.fingerprint] else { return again(ticket) }
        switch reply.kind {
        case .data: answered(work, known, PointReply(reply.data))
        case .null: again(ticket)
        // A table that has changed; or a lock: then it is sent where it can wait for longer, and be called back.
        case .error where [.staleSchema, .busy].contains(reply.error.code): again(ticket)
        case .error: fail(ticket, StatementError(ofShard: reply.error))
        case .ok, .integer, .number, .list, .batch:
            fail(ticket, Self.unasked)
        }
    }

    func failed(_ ticket: UInt64, _ error: DatabaseError) {
        // It may be failing from inside of the call.
        loop.runLater { [weak self] in self?.fail(ticket, StatementError(ofShard: error)) }
    }

    private func answered(_ work: Work, _ known: KnownPoint, _ answer: PointReply?) {
        switch answer {
        case .done(let count, let row):
            if work.request.wantsColumns, known.givesRows, let columns = known.columns {
                work.columnCount = columns.count
                client?.event { $0.began(work.token, columns) }
            }
            var reply = QueryReply(), wantsMore = true
            (reply.tag, reply.count) = (known.tag, UInt64(count))
            if let row {
                work.given = 1
                let batch = RowBatch(columnCount: work.columnCount, records: [row.bytes])
                client?.event { wantsMore = $0.rows(work.token, batch) }
            }
            // The session may have given it up: a record that is none.
            guard self.work?.token == work.token else { return }
            if wantsMore { return complete(work, reply) }
            held = { [weak self] in
                guard self?.work?.token == work.token else { return }
                self?.complete(work, reply)
            }
        case .failed(let error): fail(work.token, error)
        case nil: fail(work.token, Self.unasked)
        }
    }

    /// As any other statement: nothing was done. Where its shard is, the program is known afterwards.
    private func again(_ token: UInt64) {
        guard let work, work.token == token, let statement = work.statement else { return }
        let key = points.removeValue(forKey: work.request.fingerprint).flatMap { self.key($0, work.request) }
        if let reason = work.reason { return fail(token, reason) }
        (work.request.plan, work.isPoint) = (statement.plan, false)
        let slot = key.map { $0.withUnsafeBytes { UInt32(Slot.ofPartition($0).rawValue) } }
        send(at: slot.flatMap { router.homeNode(forSlot: $0) })
    }
}
