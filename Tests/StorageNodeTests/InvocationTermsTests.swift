import Base
import Contracts
import Crypto
import DataModel
import Net
import Testing

@testable import StorageNode

/// What a caller demands besides the operation: kept or refused, never ignored.
@Suite("Terms of an invocation", .serialized)
struct InvocationTermsTests {
    private static let gateway = CallerRights(mayNamePrincipal: true)
    private static let other = CallerRights(mayNamePrincipal: false)

    private func refusal(
        _ isWrite: Bool = false, waited: UInt64 = 0, rights: CallerRights = gateway,
        _ demand: (inout InvocationView) -> Void
    ) -> ErrorCode? {
        var invocation = InvocationView()
        let none = ByteView(start: nil, count: 0)
        invocation.operation = .call(
            ActorCallView(
                method: isWrite ? .set : .get, database: 0, key: none, flags: 0,
                numbers: NumberList(.init(start: nil, count: 0)), arguments: ViewList(.init(start: nil, count: 0))))
        demand(&invocation)
        return InvocationTerms.refusal(of: invocation, waitedMilliseconds: waited, rights: rights)?.code
    }

    @Test("a deadline that has passed refuses the call; one that has not, or none, does not")
    func deadline() {
        #expect(refusal(waited: 100) { $0.deadlineMilliseconds = 100 } == .deadlineExceeded)
        #expect(refusal(waited: 99) { $0.deadlineMilliseconds = 100 } == nil)
        #expect(refusal(waited: .max) { $0.deadlineMilliseconds = 0 } == nil)
    }

    @Test("a principal is believed from a gateway only")
    func principal() {
        Bytes("ada".utf8).withUnsafeBytes { name in
            #expect(refusal { $0.principal = name } == nil)
            #expect(refusal(rights: Self.other) { $0.principal = name } == .permissionDenied)
        }
        #expect(refusal(rights: Self.other) { _ in } == nil)
    }

    @Test("who may name a principal: gateways, and our own user over a Unix socket")
    func rights() {
        func certificate(_ role: String?) -> PeerIdentity {
            .certificate(CertificateSubject(organization: "orbit", organizationalUnit: role, commonName: "x"))
        }
        let access = InvocationAccess(user: 7, isInsecure: false)
        #expect(access.rights(of: certificate("resp-gw")) == Self.gateway)
        #expect(access.rights(of: .process(user: 7, group: 7, process: 1)) == Self.gateway)
        for peer in [certificate("orbit"), certificate(nil), .none] { #expect(access.rights(of: peer) == Self.other) }
        #expect(
            access.rights(of: certificate("storage-node"))
                == CallerRights(mayNamePrincipal: false, isLimitedToSteps: true))
        #expect(InvocationAccess(user: 7, isInsecure: true).rights(of: .none) == Self.gateway)
    }

    @Test("a reader may be content with less than strong consistency, a writer not; what is unknown is refused")
    func consistency() {
        for value: UInt32 in 0...2 { #expect(refusal { $0.consistency = value } == nil) }
        #expect(refusal(true) { $0.consistency = 0 } == nil)
        for value: UInt32 in 1...2 { #expect(refusal(true) { $0.consistency = value } == .invalidArgument) }
        #expect(refusal { $0.consistency = 3 } == .featureNotSupported)
    }

    @Test("a read at a time has no other consistency")
    func atATime() {
        #expect(refusal { $0.hasScope = true } == nil)
        #expect(refusal { ($0.hasScope, $0.consistency) = (true, 1) } == .invalidArgument)
    }

    @Test("a schema version is known if it is none")
    func schema() {
        #expect(InvocationTerms.refusal(ofSchemaVersion: 0) == nil)
        #expect(InvocationTerms.refusal(ofSchemaVersion: 1)?.code == .featureNotSupported)
    }

    @Test("a trace is shown as W3C writes it, and nothing else is shown")
    func trace() {
        let whole = Bytes(0..<25)
        #expect(
            whole.withUnsafeBytes { InvocationTerms.traceText($0) }
                == "000102030405060708090a0b0c0d0e0f-1011121314151617-18")
        #expect(whole[..<24].withUnsafeBytes { InvocationTerms.traceText($0) } == "(24 bytes)")
    }

    @Test("a call that waits in line keeps the time when it came")
    func arrivals() {
        var waiting = WaitingCalls()
        let call = Bytes([1 << 3, 1])
        for arrival: UInt64 in [5, 8] {
            #expect(call.withUnsafeBytes { waiting.append($0, of: 1, arrival: arrival) })
        }
        guard let line = waiting.next() else { return #expect(Bool(false), "a line waits") }
        #expect(line.firstArrival == 5)
        waiting.removeFirst(of: line)
        #expect(line.firstArrival == 8)
        waiting.removeFirst(of: line)
        #expect(line.firstArrival == 0 && line.first == nil)
    }

    // MARK: On the wire

    /// A batch of one GET (or SET) of `a` with the given terms, coded by hand.
    private static func batch(_ method: Method, _ terms: Bytes = [], header: Bytes = [], footer: Bytes = []) -> Bytes {
        func field(_ tag: Bytes, _ bytes: Bytes) -> Bytes { tag + [UInt8(bytes.count)] + bytes }
        var call: Bytes = [1 << 3, UInt8(method.rawValue)] + field([3 << 3 | 2], Bytes("a".utf8))
        if method == .set { call += field([6 << 3 | 2], [0x31]) }
        var slot = ByteBuffer(capacity: 64)
        Bytes("a".utf8).withUnsafeBytes { slot.append(varint: UInt64(Slot.of($0).rawValue)) }
        let own: Bytes = [1 << 3, 1, 3 << 3] + slot.readable.bytes + terms
        return header + field([InvocationView.tag], own + field([0x82, 1], call)) + footer
    }

    @Test("a node keeps or refuses every term that comes over the wire, and executes nothing that it refuses")
    func wire() throws {
        let name: Bytes = [5 << 3 | 2, 3] + Bytes("ada".utf8), trace: Bytes = [6 << 3 | 2, 25] + Bytes(0..<25)
        let transaction: Bytes = [7 << 3 | 1, 1, 0, 0, 0, 0, 0, 0, 0], schema: Bytes = [3 << 3, 9]
        let stories: [(request: Bytes, reply: Reply?)] = [
            (Self.batch(.set, [4 << 3, 100]), .ok), (Self.batch(.get, name + trace), .text("1")),
            (Self.batch(.get, [8 << 3, 2]), .text("1")), (Self.batch(.set, [8 << 3, 2]), .error(.invalidArgument)),
            (Self.batch(.set, [8 << 3, 3]), .error(.featureNotSupported)),
            (Self.batch(.set, [9 << 3, 1] + trace), .error(.invalidArgument)),  // A token without a session.
            (Self.batch(.set, transaction), .error(.invalidArgument)),  // Without a scope, and no batch.
            (Self.batch(.set, [15 << 3 | 2, 2, 5 << 3, 1]), .error(.invalidArgument)),  // Of no time.
            (Self.batch(.set, [15 << 3 | 2, 2, 2 << 3, 9]), .error(.featureNotSupported)),
            (Self.batch(.set, header: schema), .error(.featureNotSupported)),
            (Self.batch(.set, footer: schema), nil),  // A header that comes too late.
        ]
        try Stage.withDirectory { directory in
            var channel: GRPCClientChannel?
            defer { _ = channel }
            try Stage.run(directory) { stage in
                let made = GRPCClientChannel(loop: stage.loop, address: stage.address, limits: InvocationStream.limits)
                channel = made
                func tell(_ index: Int) {
                    guard index < stories.count else {
                        made.close()
                        return stage.finish()
                    }
                    made.unary(path: "/orbit.v1.InvocationService/Invoke", request: stories[index].request) { result in
                        var reply: Reply?
                        if case .success(let bytes) = result {
                            reply = bytes.withUnsafeBytes { (try? Reply.decode($0))?[1] }
                        }
                        #expect(reply == stories[index].reply, "story \(index): \(result)")
                        tell(index + 1)
                    }
                }
                tell(0)
            }
        }
    }
}
