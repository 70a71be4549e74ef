import Base
import Net
import Testing

@Suite struct SocketAddressTests {
    @Test(arguments: [
        "127.0.0.1:6379", "0.0.0.0:0", "255.255.255.255:65535", "[::1]:6379", "[2001:db8::17]:443", "unix:/tmp/a b",
        "localhost:1", "coordinator-0.orbit_net:50050",
    ])
    func printsAsItParses(_ text: String) throws {
        #expect(try SocketAddress(parsing: text).description == text)
    }

    @Test(arguments: [
        "", ":", "6379", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:-1", "127.0.0.1:+1", "127.0.0.1: 1",
        "127.0.0.256:1", "1.2.3:4", "[::1:1", "[::g]:1", "::1:1", "unix:", "host name:1", "hôte:1", "a/b:1",
    ])
    func refuses(_ text: String) {
        #expect(throws: DatabaseError.self) { try SocketAddress(parsing: text) }
    }

    @Test func limitsThePathToWhatTheKernelTakes() throws {
        let longest = String(repeating: "p", count: SocketAddress.maximumPathLength)
        #expect(try SocketAddress(parsing: "unix:" + longest) == .unix(path: longest))
        #expect(throws: DatabaseError.self) { try SocketAddress(parsing: "unix:p" + longest) }
    }

    @Test func knowsWhatIsLocal() throws {
        for text in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "unix:/a", "localhost:1"] {
            #expect(try SocketAddress(parsing: text).isLocal)
        }
        for text in ["0.0.0.0:1", "10.0.0.1:1", "[::]:1", "[fe80::1]:1", "node:1"] {
            #expect(try !SocketAddress(parsing: text).isLocal)
        }
    }
}
