import Base
import Contracts
import RespGateway
import Testing

@Suite struct PubSubTests {
    private func session(_ settings: Settings = Settings()) throws -> (ServerState, RESPSession) {
        let server = ServerState(users: UserDirectory(isOpen: true), settings: settings)
        return (server, try #require(server.admit(address: "", localAddress: "")))
    }

    private func send(_ words: [String], _ session: RESPSession) -> String {
        var input = ByteBuffer(), output = ByteBuffer()
        input.append(StoryRunner.encode(words.map { Bytes($0.utf8) }))
        session.receive(&input, output: &output, to: Recorder())
        return String(decoding: output.readable, as: UTF8.self)
    }

    @Test func everyLetterReadsAsRedisWritesIt() throws {
        for (text, shown) in [
            ("", ""), ("KEA", "AKE"), ("AKEn", "AKE"), ("Kgx", "gxK"), ("g$lshzxetdKE", "AKE"), ("Em", "Em"),
            ("KEAm", "AKEm"), ("nKE", "nKE"), ("KKgg", "gK"),
        ] {
            #expect(try #require(NotificationClasses(text)).text == shown)
        }
        #expect(NotificationClasses("q") == nil)
        #expect(NotificationClasses("K\u{e9}") == nil)
    }

    @Test func eventsBelongToClasses() throws {
        let generic = try #require(NotificationClasses("Kg"))
        #expect(generic.includes(.delete) && !generic.includes(.set) && !generic.includes(.new))
        let most = try #require(NotificationClasses("KA"))
        for event in KeyEvent.allCases { #expect(most.includes(event) == (event != .new)) }
        #expect(try #require(NotificationClasses("A")).isAny == false)
        #expect(try #require(NotificationClasses("KE")).isAny == false)
        #expect(try #require(NotificationClasses("Em")).isAny)
    }

    @Test func subscriptionsAreBounded() throws {
        let (server, session) = try session()
        let names = (0..<16_384).map { "c\($0)" }
        #expect(send(["SUBSCRIBE"] + names, session).hasSuffix(":16384\r\n"))
        #expect(send(["PSUBSCRIBE", "x"], session).hasPrefix("-ERR A client subscribes to at most 16384"))
        #expect(send(["SUBSCRIBE", "c5"], session).hasSuffix(":16384\r\n"))
        #expect(send(["UNSUBSCRIBE"], session).hasSuffix(":0\r\n"))
        let long = String(repeating: "x", count: 3 << 20)
        #expect(send(["SUBSCRIBE", long], session).hasSuffix(":1\r\n"))
        #expect(send(["SUBSCRIBE", long + "y"], session).hasPrefix("-ERR A client subscribes to at most"))
        #expect(send(["PSUBSCRIBE", String(repeating: "x", count: 1025)], session).hasPrefix("-ERR A pattern has"))
        session.peerClosed()
        #expect(server.channels.interest.isEmpty)
        server.channels.forEachListener(of: Bytes(long.utf8)) { _, _ in Issue.record("somebody listens still") }
    }

    private func interest(_ words: [String]) throws -> KeyspaceInterest {
        let (server, session) = try session()
        _ = send(words, session)  // Without notifications nothing waits.
        return server.channels.interest
    }

    @Test func whatIsHeardOfCoversWhatIsWanted() throws {
        let channel = try interest(["SUBSCRIBE", "__keyspace@2__:a*b"])
        #expect(channel.databases == 4)
        #expect(channel.keys == [Bytes("a\\*b".utf8)])
        let pattern = try interest(["PSUBSCRIBE", "__keyspace@2__:a*b"])
        #expect(pattern.keys == [Bytes("a*b".utf8)])
        let events = try interest(["SUBSCRIBE", "__keyevent@2__:set"])
        #expect(events.databases == 4 && events.keys == nil)
        #expect(events.covers(channel) && !channel.covers(events) && !channel.covers(pattern))
        for words in [["PSUBSCRIBE", "*"], ["PSUBSCRIBE", "__key*"], ["PSUBSCRIBE", "__keyevent@?__:set"]] {
            let all = try interest(words)
            #expect(all.covers(events) && all.databases == .max)
        }
        for words in [
            ["SUBSCRIBE", "news"], ["PSUBSCRIBE", "news*"], ["SUBSCRIBE", "__keyspace@16__:a"],
            ["SUBSCRIBE", "__keyspace@99999999999999999999__:a"], ["SUBSCRIBE", "__keyspace@__:a"],
            ["SUBSCRIBE", "__keyspace@0"], ["UNSUBSCRIBE"],
        ] {
            #expect(try interest(words).isEmpty, "\(words)")
        }
        let many = try interest(["SUBSCRIBE"] + (0..<100).map { "__keyspace@0__:k\($0)" })
        #expect(many.keys == nil && many.databases == 1)
        var union = channel
        union.formUnion(pattern)
        #expect(union.covers(channel) && union.covers(pattern) && !union.covers(events))
        union.formUnion(events)
        #expect(union == events)
        #expect(events.covers(KeyspaceInterest()) && KeyspaceInterest().covers(KeyspaceInterest()))
    }
}
