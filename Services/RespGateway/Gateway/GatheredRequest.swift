import Base
import Contracts

/// A plan with calls that need keys of several shards in one place: reads, then does what follows from it, and begins
/// again when what it had read did not hold any more.
///
/// Nothing is lost when others change the same keys: the second step is done only if nobody has. Who is overtaken for
/// `patience` is told so.
final class GatheredRequest {
    /// How long it is tried, and the longest pause between two attempts, in milliseconds.
    private static let patience: UInt64 = 10_000, longestPause: UInt64 = 64

    private let gathering: PlanGathering
    private let token: UInt64
    private let client: ClientConnection
    private let gateway: Gateway
    private let completion: (TransactionOutcome) -> Void
    private let startedAt: UInt64
    private var attempts = 0

    private init(
        _ gathering: PlanGathering, _ token: UInt64, _ client: ClientConnection, _ gateway: Gateway,
        _ completion: @escaping (TransactionOutcome) -> Void
    ) {
        (self.gathering, self.token, self.client, self.gateway) = (gathering, token, client, gateway)
        self.completion = completion
        startedAt = gateway.loop.now
    }

    /// `completion` is called later, never from inside. Nothing may be asked on the client's connection before.
    static func begin(
        _ gathering: PlanGathering, token: UInt64, for client: ClientConnection, _ gateway: Gateway,
        _ completion: @escaping (TransactionOutcome) -> Void
    ) throws(DatabaseError) {
        client.session.hold(until: token)
        try GatheredRequest(gathering, token, client, gateway, completion).read()
    }

    private func read() throws(DatabaseError) {
        attempts += 1
        try TransactionRequest.begin(gathering.reading, token: token, for: client, gateway) { [self] outcome in
            switch outcome {
            case .done(let replies): carryOut(gathering.resolve(replies))
            case .changed: completion(.changed)
            case .failed(let error): completion(.failed(error))
            }
        }
    }

    private func carryOut(_ resolution: PlanGathering.Resolution?) {
        guard let resolution else { return completion(.failed(Self.damaged)) }
        guard !resolution.plan.calls.isEmpty || !resolution.plan.watches.isEmpty else {
            return answer(resolution, ByteView(start: nil, count: 0))
        }
        do throws(DatabaseError) {
            try TransactionRequest.begin(resolution.plan, token: token, for: client, gateway) { [self] outcome in
                switch outcome {
                case .done(let replies): answer(resolution, replies)
                case .changed: readAgain()
                case .failed(let error): completion(.failed(error))
                }
            }
        } catch {
            completion(.failed(error))
        }
    }

    private func answer(_ resolution: PlanGathering.Resolution, _ replies: ByteView) {
        let answers = ReplyBatchEncoder()
        guard resolution.answer(replies, into: answers) else { return completion(.failed(Self.damaged)) }
        var frame = ByteBuffer(capacity: answers.size + 64)
        answers.write(bookmark: .zero, mapEpoch: MapEpoch(rawValue: 0), into: &frame)
        completion(.done(frame.readable))
    }

    /// Others have changed the keys, or the client's watched ones: reading again tells which.
    private func readAgain() {
        guard gateway.loop.now &- startedAt < Self.patience * 1_000_000 else {
            return completion(.failed(Self.overtaken))
        }
        let longest = min(1 &<< UInt64(min(attempts, 16)), Self.longestPause)
        gateway.loop.schedule(afterMilliseconds: Int(gateway.random() % (longest + 1))) { [self] in
            do throws(DatabaseError) { try read() } catch { completion(.failed(error)) }
        }
    }

    private static let damaged = DatabaseError(
        .internalFailure, "The answers of the shards cannot be put together")
    private static let overtaken = DatabaseError(
        .busy, "Other clients changed the keys all the time; nothing was done")
}
