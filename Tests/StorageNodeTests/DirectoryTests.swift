import Base
import Contracts
import Crypto
import DataModel
import Net
import Placement
import TestKit
import Testing

@testable import Actors
@testable import Replication
@testable import StorageNode

/// A call whose trailers count.
private final class Refused: GRPCStreamHandler {
    let onClosed: (GRPCStatus) -> Void

    init(_ onClosed: @escaping (GRPCStatus) -> Void) {
        self.onClosed = onClosed
    }

    func received(_ message: ByteView) { Issue.record("an answer to a call that is to be refused") }
    func closed(_ status: GRPCStatus) {
        onClosed(status)
    }
}

@Suite("Directory", .serialized)
struct DirectoryTests {
    /// A story, and the way to the directory of its node.
    private struct Scene {
        let stage: Stage
        let channel: GRPCClientChannel

        func locate(
            _ key: String, type: String = "", database: UInt32 = 0,
            _ body: @escaping (Result<LocateResponse, GRPCStatus>) -> Void
        ) {
            let request = LocateRequest(database: database, type: type, key: Bytes(key.utf8))
            channel.unary(path: DirectoryPath.locate, request: request.encode()) { result in
                body(result.flatMap { bytes in Self.decoded(bytes) { try LocateResponse(decoding: $0) } })
            }
        }

        func list(
            _ request: ListActorsRequest, _ body: @escaping (Result<ListActorsResponse, GRPCStatus>) -> Void
        ) {
            channel.unary(path: DirectoryPath.listActors, request: request.encode()) { result in
                body(result.flatMap { bytes in Self.decoded(bytes) { try ListActorsResponse(decoding: $0) } })
            }
        }

        private static func decoded<Message>(
            _ bytes: Bytes, _ decode: (ByteView) throws -> Message
        ) -> Result<Message, GRPCStatus> {
            do {
                return .success(try bytes.withUnsafeBytes(decode))
            } catch {
                return .failure(GRPCStatus(.dataLoss, "\(error)"))
            }
        }

        /// All pages; `between` runs before each but the first.
        func listAll(
            _ request: ListActorsRequest, between: @escaping () -> Void = {}, gathered: [ListActorsResponse] = [],
            _ body: @escaping ([ListActorsResponse]) -> Void
        ) {
            list(request) { result in
                guard case .success(let page) = result else {
                    Issue.record("\(result)")
                    return end()
                }
                let pages = gathered + [page]
                guard !page.nextPageToken.isEmpty else { return body(pages) }
                between()
                var next = request
                next.pageToken = page.nextPageToken
                listAll(next, between: between, gathered: pages, body)
            }
        }

        func refused(_ path: String, _ request: Bytes, _ body: @escaping (GRPCStatus, GRPCMetadata) -> Void) {
            var stream: GRPCClientStream?
            stream = channel.open(
                path: path,
                handler: Refused { status in
                    body(status, stream?.trailers ?? GRPCMetadata())
                    stream = nil
                })
            stream?.send { $0.append(request) }
            stream?.end()
        }

        func end() {
            channel.close()
            stage.finish()
        }
    }

    private func run(
        disk: any Disk = SimulatedDisk(seed: 1), settings: ((inout NodeSettings) -> Void)? = nil,
        map: ((String) throws -> ShardMap)? = nil, _ begin: @escaping (Scene) -> Void
    ) throws {
        try Stage.withDirectory { directory in
            var channel: GRPCClientChannel?
            defer { _ = channel }
            try Stage.run(directory, shards: 2, settings: settings, disk: disk, map: map) { stage in
                let made = GRPCClientChannel(loop: stage.loop, address: stage.address)
                channel = made
                begin(Scene(stage: stage, channel: made))
            }
        }
    }

    private static func bucket(_ key: String) -> UInt32 {
        Bytes(key.utf8).withUnsafeBytes { UInt32(Slot.of($0).bucket(of: Stage.bucketCount).rawValue) }
    }

    @Test("an actor is found where its key's shard is led, active or not, and asking does not activate it")
    func locate() throws {
        try run { scene in
            let stage = scene.stage, caller = stage.caller
            let shard: UInt32 = Self.bucket("a") < 32 ? 1 : 2
            func activations() -> Int { stage.node.executors.reduce(0) { $0 + $1.activations } }
            scene.locate("a") { result in
                guard case .success(let idle) = result else { return #expect(Bool(false), "\(result)") }
                #expect((idle.bucket, idle.shard, idle.node) == (Self.bucket("a"), shard, 1))
                #expect(idle.addresses == ["\(stage.address)"] && idle.term > 0 && idle.mapEpoch == 1)
                #expect(idle.actor == nil && activations() == 0)
                caller.set("a", "1")
                caller.call(.hashSet, "h", [[0x66], [0x31]])
            }
            caller.onOutcome = { _, _ in
                guard caller.isSettled else { return }
                scene.locate("a") { result in
                    guard case .success(let found) = result, let actor = found.actor else {
                        return #expect(Bool(false), "\(result)")
                    }
                    #expect((actor.type, actor.key, actor.shard, actor.term) == ("string", [0x61], shard, found.term))
                    #expect(actor.activeSince > 0 && actor.lastCalled / 1000 * 1000 == actor.activeSince)
                    #expect(!actor.isPending && actor.memorySize > 0)
                    scene.locate("a", type: "hash") { other in
                        #expect((try? other.get())?.actor == nil && (try? other.get())?.shard == shard)
                        scene.locate("h", type: "hash") { hash in
                            #expect((try? hash.get())?.actor?.type == "hash")
                            scene.locate("a", database: 1) { elsewhere in
                                #expect((try? elsewhere.get())?.shard == shard)
                                #expect((try? elsewhere.get())?.actor == nil && activations() == 2)
                                scene.end()
                            }
                        }
                    }
                }
            }
        }
    }

    @Test("an actor whose change is not durable yet is active, and said to be pending")
    func pending() throws {
        let disk = GatedDisk(SimulatedDisk(seed: 2))
        // As on a slow disk: syncs run on the log's thread, and the loop goes on.
        try run(disk: disk, settings: { $0.log.inlineSyncNanoseconds = 0 }) { scene in
            let caller = scene.stage.caller
            caller.set("a", "0")
            func look() {
                scene.locate("a") { result in
                    // The call may come after the question.
                    guard let actor = (try? result.get())?.actor, actor.isPending else { return look() }
                    #expect(caller[2] == nil)
                    disk.open()
                }
            }
            caller.onOutcome = { ticket, _ in
                if ticket == 1 {
                    disk.shut()
                    caller.set("a", "1")
                    return look()
                }
                scene.locate("a") { result in
                    #expect((try? result.get())?.actor?.isPending == false)
                    scene.end()
                }
            }
        }
    }

    @Test("pages have each actor that stays once, and none twice, while others come and go", arguments: [7, 1000])
    func pages(_ size: UInt32) throws {
        let seed = freshSeed("Directory.pages")
        try run { scene in
            let stage = scene.stage, caller = stage.caller
            var random = SplitMix64(seed: seed)
            let staying = (0..<(size < 100 ? 300 : 3000)).map { "stays\($0)" }
            for key in staying { caller.set(key, "1") }
            for number in 0..<50 { caller.call(.hashSet, "hash\(number)", [[0x66], [0x31]]) }
            var isListed = false
            func churn() {
                for _ in 0..<random.next(below: 40) {
                    let key = "passes\(random.next(below: 500))"
                    if random.next(below: 3) == 0 { caller.call(.delete, key) } else { caller.set(key, "1") }
                }
            }
            func check(_ pages: [ListActorsResponse]) {
                let actors = pages.flatMap(\.actors)
                #expect(pages.allSatisfy { $0.actors.count <= Int(size) } && pages.count > 1)
                let keys = actors.map { String(decoding: $0.key, as: UTF8.self) }
                #expect(Set(keys).count == keys.count, "twice, seed \(seed)")
                #expect(Set(keys).isSuperset(of: staying), "left out, seed \(seed)")
                #expect(keys.filter { $0.hasPrefix("hash") }.count == 50)
                #expect(
                    actors.allSatisfy {
                        $0.shard == (Self.bucket(String(decoding: $0.key, as: UTF8.self)) < 32 ? 1 : 2)
                    })
                #expect(pages.flatMap(\.shards).filter(\.isComplete).map(\.shard) == [1, 2])
                scene.listAll(ListActorsRequest(type: "hash", shard: 2, pageSize: 7)) { pages in
                    let found = pages.flatMap(\.actors)
                    #expect(found.count == (0..<50).count { Self.bucket("hash\($0)") >= 32 })
                    #expect(found.allSatisfy { $0.type == "hash" && $0.shard == 2 })
                    #expect(pages.flatMap(\.shards).allSatisfy { $0.shard == 2 })
                    stage.poll {
                        guard caller.isSettled else { return false }
                        scene.end()
                        return true
                    }
                }
            }
            caller.onOutcome = { _, _ in
                guard caller.isSettled, !isListed else { return }
                isListed = true
                scene.listAll(ListActorsRequest(pageSize: size), between: churn, check)
            }
        }
    }

    @Test("a page ends before it is too large, and after a bounded look at what is not wanted")
    func bounds() throws {
        try run { scene in
            let caller = scene.stage.caller
            let long = (0..<60).map { "{x}\($0)" + String(repeating: "k", count: 60_000) }
            for key in long { caller.set(key, "1") }
            for number in 0..<5000 { caller.set("{x}\(number)", "1") }
            var isListed = false
            caller.onOutcome = { _, _ in
                guard caller.isSettled, !isListed else { return }
                isListed = true
                scene.listAll(ListActorsRequest(pageSize: 1000)) { pages in
                    let sizes = pages.map { $0.actors.reduce(0) { $0 + $1.key.count } }
                    #expect(sizes.allSatisfy { $0 < DirectoryService.pageBytes + 65_536 }, "\(sizes)")
                    #expect(pages.reduce(0) { $0 + $1.actors.count } == 5060)
                    scene.listAll(ListActorsRequest(type: "hash", pageSize: 1000)) { pages in
                        #expect(pages.allSatisfy(\.actors.isEmpty) && pages.count > 1)
                        scene.end()
                    }
                }
            }
        }
    }

    @Test("what is no question is refused by the catalog's codes, and tokens are good for their list only")
    func refusals() throws {
        try run { scene in
            let stage = scene.stage
            for number in 0..<20 { stage.caller.set("k\(number)", "1") }
            let questions: [(String, Bytes, GRPCStatus.Code)] = [
                (DirectoryPath.locate, LocateRequest(database: 16, key: [1]).encode(), .invalidArgument),
                (DirectoryPath.locate, LocateRequest(type: "list", key: [1]).encode(), .invalidArgument),
                (
                    DirectoryPath.locate, LocateRequest(key: Bytes(repeating: 1, count: 65_537)).encode(),
                    .resourceExhausted
                ),
                (DirectoryPath.locate, [0xff], .invalidArgument),
                (DirectoryPath.listActors, ListActorsRequest(type: "no").encode(), .invalidArgument),
                (DirectoryPath.listActors, ListActorsRequest(shard: 9).encode(), .invalidArgument),
                (DirectoryPath.listActors, ListActorsRequest(pageSize: 1001).encode(), .resourceExhausted),
                (DirectoryPath.listActors, ListActorsRequest(pageToken: [1]).encode(), .invalidArgument),
                (
                    DirectoryPath.listActors, ListActorsRequest(pageToken: Bytes(repeating: 0, count: 20)).encode(),
                    .invalidArgument
                ),
            ]
            func ask(_ index: Int) {
                guard index < questions.count else {
                    return scene.list(ListActorsRequest(shard: 1, pageSize: 1)) { result in
                        let token = (try? result.get())?.nextPageToken ?? []
                        #expect(!token.isEmpty)
                        scene.list(ListActorsRequest(shard: 2, pageToken: token)) { result in
                            #expect(throws: GRPCStatus.self) { try result.get() }
                            scene.end()
                        }
                    }
                }
                scene.refused(questions[index].0, questions[index].1) { status, _ in
                    #expect(status.code == questions[index].2, "question \(index): \(status)")
                    ask(index + 1)
                }
            }
            stage.caller.onOutcome = { _, _ in if stage.caller.isSettled { ask(0) } }
        }
    }

    @Test("a node that does not lead a shard says who does, and lists its own shards")
    func notLeader() throws {
        let (here, there) = (NodeID(rawValue: 1), NodeID(rawValue: 2))
        let map = { (address: String) throws -> ShardMap in
            let half = Stage.bucketCount / 2
            let membership = try #require(ShardMembership(voters: [there], learners: [], move: nil, transfer: nil))
            return try ShardMap(
                epoch: MapEpoch(rawValue: 5), cluster: 1, bucketCount: Stage.bucketCount,
                shards: [
                    .init(id: ShardID(rawValue: 1), buckets: [0..<half], leader: here, replicas: [here]),
                    .init(
                        id: ShardID(rawValue: 2), buckets: [half..<Stage.bucketCount], leader: there,
                        term: Term(rawValue: 8), membership: membership, version: 1, versionInForce: 1),
                ],
                nodes: [(here, [address]), (there, ["unix:/there", "127.0.0.1:9"])].map { id, addresses in
                    .init(
                        id: id, uid: NodeUID(high: 0, low: UInt64(id.rawValue)), addresses: addresses,
                        fencingToken: 1, state: .up)
                })
        }
        let mine = (0...).lazy.map { "k\($0)" }.first { Self.bucket($0) < 32 } ?? ""
        let theirs = (0...).lazy.map { "k\($0)" }.first { Self.bucket($0) >= 32 } ?? ""
        try run(map: map) { scene in
            func check(_ status: GRPCStatus, _ trailers: GRPCMetadata) {
                #expect(status.code == .unavailable, "\(status)")
                #expect(trailers.text(DirectoryPath.leaderNodeTrailer) == "2")
                #expect(trailers.text(DirectoryPath.leaderTrailer) == "unix:/there,127.0.0.1:9")
                #expect(trailers.text(DirectoryPath.leaderTermTrailer) == "8")
            }
            scene.refused(DirectoryPath.locate, LocateRequest(key: Bytes(theirs.utf8)).encode()) { status, trailers in
                check(status, trailers)
                scene.refused(
                    DirectoryPath.listActors, ListActorsRequest(shard: 2).encode()
                ) { status, trailers in
                    check(status, trailers)
                    scene.locate(mine) { result in
                        #expect((try? result.get())?.shard == 1, "\(result)")
                        scene.listAll(ListActorsRequest()) { pages in
                            #expect(pages.flatMap(\.shards).map(\.shard) == [1])
                            scene.end()
                        }
                    }
                }
            }
        }
    }

    @Test("damaged questions: every call ends once, and the node goes on")
    func damage() throws {
        let seed = freshSeed("Directory.damage")
        try run { scene in
            var random = SplitMix64(seed: seed)
            var messages: [(String, Bytes)] = []
            let samples = [
                (DirectoryPath.locate, LocateRequest(database: 1, type: "hash", key: Bytes(0...40)).encode()),
                (
                    DirectoryPath.listActors,
                    ListActorsRequest(type: "string", shard: 1, pageSize: 9, pageToken: Bytes(0..<20)).encode()
                ),
            ]
            for (path, whole) in samples {
                let broken =
                    Damage.truncations(of: whole) + Damage.corruptions(of: whole, count: 300, using: &random)
                messages += broken.map { (path, $0) }
            }
            var ended = 0
            func next() {
                guard ended < messages.count else {
                    return scene.locate("after") { result in
                        #expect((try? result.get()) != nil)
                        scene.end()
                    }
                }
                let allowed: [GRPCStatus.Code] = [.invalidArgument, .resourceExhausted]
                scene.channel.unary(path: messages[ended].0, request: messages[ended].1) { result in
                    if case .failure(let status) = result { #expect(allowed.contains(status.code), "\(status)") }
                    ended += 1
                    next()
                }
            }
            next()
        }
    }

    @Test("the directory shows keys: it is for those who may read data")
    func access() {
        let access = InvocationAccess(user: 1000, isInsecure: false)
        func code(_ path: String, _ role: String) -> GRPCStatus.Code? {
            let subject = CertificateSubject(organization: "orbit", organizationalUnit: role, commonName: "x")
            return access.refusal(path: path, peer: .certificate(subject))?.code
        }
        for path in [DirectoryPath.locate, DirectoryPath.listActors] {
            for role in ["orbit", "resp-gw"] { #expect(code(path, role) == nil, "\(role) \(path)") }
            for role in ["storage-node", "coordinator", "stranger"] {
                #expect(code(path, role) == .permissionDenied, "\(role) \(path)")
            }
            #expect(access.refusal(path: path, peer: .none)?.code == .unauthenticated)
        }
        #expect(code("/grpc.health.v1.Health/Check", "coordinator") == nil)
    }
}
