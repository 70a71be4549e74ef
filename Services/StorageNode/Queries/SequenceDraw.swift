import Base
import Contracts
import DataModel
import GatewayKit

/// What a statement wants of a sequence.
enum SequenceWish {
    /// So many numbers.
    case draw(Int)
    /// To go on behind a number, or with it.
    case set(Int64, isCalled: Bool)

    var count: Int {
        switch self {
        case .draw(let count): count
        case .set: 1
        }
    }
}

/// Draws numbers of a sequence from the shard that counts them, or sets it there: durable when they come, whatever
/// becomes of the transaction that wanted them.
final class SequenceDraw: ReplyReceiver {
    private let router: NodeRouter
    private let sequence: CollectionDescriptor
    private let wish: SequenceWish
    private let completion: (Result<[Int64], DatabaseError>) -> Void

    init(
        _ router: NodeRouter, _ sequence: CollectionDescriptor, _ wish: SequenceWish,
        _ completion: @escaping (Result<[Int64], DatabaseError>) -> Void
    ) {
        (self.router, self.sequence, self.wish, self.completion) = (router, sequence, wish, completion)
    }

    /// The completion is called later, once.
    func begin() {
        var key = ByteBuffer(capacity: 8)
        KeyEncoding.append(integer: 0, into: &key)
        let slot = UInt32(Slot.ofPartition(key.readable).rawValue)
        let name = RowKey.make(sequence.id, primaryKey: key.readable)
        let version = Int64(bitPattern: sequence.version)
        var builder = RowCallBuilder()
        switch wish {
        case .draw(let count): builder.append(.sequenceNext, key: name, numbers: [version, Int64(count)])
        case .set(let number, let isCalled):
            builder.append(.sequenceSet, key: name, numbers: [version, number, isCalled ? 1 : 0])
        }
        builder.body.withUnsafeBytes { body in
            router.batch(connection: 0, slot: slot, body: body, isWrite: true, receiver: self, ticket: 0)
        }
    }

    func completed(_ ticket: UInt64, _ reply: borrowing ReplyView) {
        var numbers: [Int64] = [], failure: DatabaseError?
        if reply.kind == .error { failure = reply.error }
        var replies = reply.replies
        while let answer = replies.next() {
            switch answer.kind {
            case .error: failure = answer.error
            case .integer: numbers.append(answer.integer)
            case .list:
                var items = answer.items
                while case .integer(let number) = items.next() { numbers.append(number) }
            case .null, .ok, .number, .data, .batch: break
            }
        }
        if let failure { return end(.failure(failure)) }
        guard numbers.count == wish.count else {
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
