import Base
import Contracts
import DataModel
import GatewayKit

/// Draws numbers of a sequence from the shard that counts it: durable when they come, whatever becomes of the
/// transaction that wanted them.
final class SequenceDraw: ReplyReceiver {
    private let router: NodeRouter
    private let sequence: CollectionDescriptor
    private let count: Int
    private let completion: (Result<[Int64], DatabaseError>) -> Void

    init(
        _ router: NodeRouter, _ sequence: CollectionDescriptor, _ count: Int,
        _ completion: @escaping (Result<[Int64], DatabaseError>) -> Void
    ) {
        (self.router, self.sequence, self.count, self.completion) = (router, sequence, count, completion)
    }

    /// The completion is called later, once.
    func begin() {
        var key = ByteBuffer(capacity: 8)
        KeyEncoding.append(integer: 0, into: &key)
        let slot = UInt32(Slot.ofPartition(key.readable).rawValue)
        var builder = RowCallBuilder()
        builder.append(
            .sequenceNext, key: RowKey.make(sequence.id, primaryKey: key.readable),
            numbers: [Int64(bitPattern: sequence.version), Int64(count)])
        builder.body.withUnsafeBytes { body in
            router.batch(connection: 0, slot: slot, body: body, isWrite: true, receiver: self, ticket: 0)
        }
    }

    func completed(_ ticket: UInt64, _ reply: borrowing ReplyView) {
        var numbers: [Int64] = [], failure: DatabaseError?
        if reply.kind == .error { failure = reply.error }
        var replies = reply.replies
        while let answer = replies.next() {
            if answer.kind == .error { failure = answer.error }
            var items = answer.items
            while case .integer(let number) = items.next() { numbers.append(number) }
        }
        if let failure { return end(.failure(failure)) }
        guard numbers.count == count else {
            return end(.failure(DatabaseError(.protocolViolation, "A shard drew other numbers than were asked for")))
        }
        end(.success(numbers))
    }

    func failed(_ ticket: UInt64, _ error: DatabaseError) { end(.failure(error)) }

    private func end(_ result: Result<[Int64], DatabaseError>) {
        let completion = completion
        router.after(milliseconds: nil) { completion(result) }
    }
}
