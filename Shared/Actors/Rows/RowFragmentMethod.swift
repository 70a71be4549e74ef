import Base
import Contracts
import DataModel

extension ActorRuntime {
    /// What the shard has of a collection: as it is, or what a fragment makes of it.
    func readRows(_ call: ActorCallView, _ reply: Reply) throws(DatabaseError) {
        if call.method == .rowScan { try rowScan(call, reply) } else { try rowFragment(call, reply) }
    }

    func rowFragment(_ call: ActorCallView, _ reply: Reply) throws(DatabaseError) {
        let (collection, first, end) = try admitScan(call)
        let (from, to, resume) = (call.arguments[0], call.arguments[1], call.arguments[2])
        let request = RowFragmentRequest(
            name: call.arguments[3], collection: collection, version: UInt64(bitPattern: call.numbers[0]),
            rows: Int(clamping: max(call.numbers[3], 0)),
            bytes: call.numbers[4] > 0 ? min(Int(clamping: call.numbers[4]), limits.replyBytes) : limits.replyBytes,
            transactionTime: call.numbers[5], statementTime: call.numbers[6], parameters: call.arguments[4])
        guard let fragment = fragments?.begin(request) else { return reply.null() }
        let pending = pendingRows(collection, from: from, to: to)
        let isAll = from.isEmpty && to.isEmpty && pending.isEmpty
        let start = from.bytes
        var bucket = first, position = compareKeys(resume, from) > 0 ? resume.bytes : start
        while bucket < min(end, buckets.upperBound), !fragment.isFull {
            let reach: RowReach
            if isAll, let known = position.withUnsafeBytes({ fragment.takeKnown(bucket, from: $0) }) {
                reach = known
            } else {
                reach = try read(bucket, position, to, collection, pending, into: fragment, isAll: isAll, reply)
            }
            switch reach {
            case .key(let key): position = key
            case .bucket: (bucket, position) = (bucket + 1, start)
            }
        }
        switch fragment.finish() {
        case .failed(let reason): reply.data(reason)
        case .blocks(let blocks):
            guard blocks.reduce(0, { $0 + $1.count }) <= limits.replyBytes else { throw Failure.replyTooLarge }
            reply.beginList()
            for block in blocks { reply.item(block) }
            reply.encoder.listInteger(Int64(bucket))
            reply.item(position)
            reply.encoder.endList()
        }
    }

    private func read(
        _ bucket: Int, _ position: Bytes, _ to: ByteView, _ collection: CollectionID, _ pending: [PendingRow],
        into fragment: any RowFragment, isAll: Bool, _ reply: Reply
    ) throws(DatabaseError) -> RowReach {
        var room = RowScanRoom(records: .max, bytes: .max, isKeysOnly: false, now: now, fragment: fragment)
        try position.withView { (position: ByteView) throws(DatabaseError) in
            fragment.begin(bucket, from: position, isAll: isAll)
            try scanRows(bucket, collection, position, to, pending, &room, reply)
        }
        return fragment.end(room.next)
    }
}
