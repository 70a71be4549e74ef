import Base
import Contracts

/// A statement that may be given up while it runs.
final class StatementHandle {
    fileprivate let stream: ObjectIdentifier?, principal: String
    /// It was given up: whatever it fails with from then on, this is why.
    private(set) var isCancelled = false
    private var isClosed = false
    /// Has it stop; nil where it cannot, or need not: it waits, or is being committed.
    var onCancel: (() -> Void)?

    fileprivate init(_ stream: ObjectIdentifier?, _ principal: String) {
        (self.stream, self.principal) = (stream, principal)
    }

    func cancel() {
        guard !isCancelled, !isClosed else { return }
        isCancelled = true
        onCancel?()
    }

    /// From now on it is too late; false: it was given up before.
    func close() -> Bool {
        if !isCancelled { isClosed = true }
        return isClosed
    }

    static let cancelled = StatementError(.queryCanceled, "canceling statement due to user request")
}

/// Statements of this node by the names that their gateways gave them: numbers that nobody else can guess.
final class StatementsUnderWay {
    private var handles: [UInt64: StatementHandle] = [:]

    subscript(_ number: UInt64) -> StatementHandle? { handles[number] }

    /// Nil for a statement without a name, or with one that is taken: it cannot be called back.
    func begin(_ number: UInt64, on stream: ObjectIdentifier?, _ principal: String) -> StatementHandle? {
        guard number != 0, handles[number] == nil else { return nil }
        let handle = StatementHandle(stream, principal)
        handles[number] = handle
        return handle
    }

    func end(_ number: UInt64, _ handle: StatementHandle?) {
        if let handle, handles[number] === handle { handles[number] = nil }
    }

    func cancel(_ number: UInt64, principal: String) {
        if let handle = handles[number], handle.principal == principal { handle.cancel() }
    }

    /// Nobody waits for the answers any more.
    func streamClosed(_ stream: ObjectIdentifier) {
        for handle in handles.values.filter({ $0.stream == stream }) { handle.cancel() }
    }
}
