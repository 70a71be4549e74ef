import Base
import Contracts

/// What a caller may demand of its calls, by who it is.
struct CallerRights: Hashable, Sendable {
    /// May say for whom a call is made.
    var mayNamePrincipal: Bool
    /// May take part in transactions, and do steps of sagas, and nothing else: other nodes.
    var isLimitedToSteps = false
}

/// What a caller demands of a call besides its operation (Proto/invocation.proto). What cannot be kept is refused
/// before anything is evaluated, so a refusal is certain: nothing happened.
///
/// A trace demands nothing: it goes into the log when the call is refused. A principal that is believed changes nothing
/// yet, because gateways check what their users may do.
enum InvocationTerms {
    /// `Consistency` of the wire contract.
    private enum Consistency: UInt32 { case strong, boundedStale, any }

    /// There are no collections with names yet, so there is no version of their names but none.
    static func refusal(ofSchemaVersion version: UInt64) -> DatabaseError? {
        version == 0
            ? nil : DatabaseError(.featureNotSupported, "This node does not know version \(version) of the schema")
    }

    static func refusal(
        of invocation: borrowing InvocationView, waitedMilliseconds: UInt64, rights: CallerRights
    ) -> DatabaseError? {
        if invocation.hasScope, invocation.transaction == 0, invocation.consistency != 0 {
            return DatabaseError(.invalidArgument, "A read at a time has no other consistency")
        }
        let limit = UInt64(invocation.deadlineMilliseconds)
        guard limit == 0 || waitedMilliseconds < limit else {
            return DatabaseError(.deadlineExceeded, "The call waited longer than it may take; it was not executed")
        }
        guard invocation.principal.isEmpty || rights.mayNamePrincipal else {
            return DatabaseError(.permissionDenied, "Only a gateway may say for whom it calls")
        }
        switch Consistency(rawValue: invocation.consistency) {
        case .strong: return nil
        case .boundedStale, .any:
            // The leader's answer is never older than what a reader is content with. A write has no such choice.
            guard isWrite(invocation.operation) else { return nil }
            return DatabaseError(.invalidArgument, "A write is never less than strongly consistent")
        case nil:
            return DatabaseError(
                .featureNotSupported, "This node does not know consistency \(invocation.consistency)")
        }
    }

    static func isWrite(_ operation: OperationView) -> Bool {
        switch operation {
        case .call(let call): call.method.isWrite
        case .record(let record): record.kind == .put || record.kind == .delete
        case .batch, .step, .home: true  // A batch of reads too: only the leader evaluates batches.
        case .unknown: false
        }
    }

    /// A trace context (trace id, span id, flags) in the letters of W3C, without its version: what log searches look
    /// for. Whatever else is there is not shown.
    static func traceText(_ trace: ByteView) -> String {
        guard trace.count == 25 else { return "(\(trace.count) bytes)" }
        func hex(_ range: Range<Int>) -> String {
            range.map { String(trace[$0] >> 4, radix: 16) + String(trace[$0] & 15, radix: 16) }.joined()
        }
        return hex(0..<16) + "-" + hex(16..<24) + "-" + hex(24..<25)
    }
}
