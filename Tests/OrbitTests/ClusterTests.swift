import Base
import Testing

import Orbit

@Suite("Cluster on paper")
struct ClusterTests {
    private func options(_ change: (inout ClusterOptions) -> Void = { _ in }) -> ClusterOptions {
        var options = ClusterOptions(data: "/d")
        change(&options)
        return options
    }

    @Test("plans coordinator, nodes and gateway with their ports and sockets")
    func plan() throws {
        let plan = try ClusterPlan(
            options {
                $0.nodes = 2
                $0.portOffset = 100
                $0.fsync = "everysec"
            })
        #expect(
            plan.processes.map(\.id) == ["coordinator-1", "storage-node-1", "storage-node-2", "resp-gw-1", "pg-gw-1"])
        let node = plan.processes[2]
        #expect(node.addresses == ["unix:/d/run/n2", "127.0.0.1:50152"])
        #expect(
            node.arguments == [
                "--data", "/d/storage-node-2", "--listen", "unix:/d/run/n2,127.0.0.1:50152", "--admin",
                "unix:/d/run/n2.admin", "--coordinator", "unix:/d/run/c1", "--fsync", "everysec",
                "--tls-ca", "/d/tls/ca.pem", "--tls-cert", "/d/tls/storage-node-2.pem", "--tls-key",
                "/d/tls/storage-node-2.key",
            ])
        let gateway = plan.processes[3]
        #expect(gateway.addresses == ["127.0.0.1:6479", "127.0.0.1:6480"])
        #expect(gateway.tlsAddress == "127.0.0.1:6480")
        #expect(
            gateway.arguments == [
                "--listen", "127.0.0.1:6479", "--coordinator", "unix:/d/run/c1", "--admin", "unix:/d/run/g1.admin",
                "--tls-listen", "127.0.0.1:6480", "--client-cert", "/d/tls/resp-gw-1.clients.pem", "--client-key",
                "/d/tls/resp-gw-1.clients.key",
            ])
        let postgres = plan.processes[4]
        #expect(postgres.addresses == ["127.0.0.1:5532"] && postgres.tlsAddress == nil)
        #expect(
            postgres.arguments == [
                "--listen", "127.0.0.1:5532", "--coordinator", "unix:/d/run/c1", "--admin", "unix:/d/run/p1.admin",
                "--client-cert", "/d/tls/pg-gw-1.clients.pem", "--client-key", "/d/tls/pg-gw-1.clients.key",
            ])
        #expect(try !ClusterPlan(options { $0.servesPostgres = false }).processes.contains { $0.role == .pgGateway })
    }

    @Test("three nodes come with three coordinators, and everybody knows all of them")
    func coordinators() throws {
        let plan = try ClusterPlan(
            options {
                $0.nodes = 64
                $0.coordinators = ClusterOptions.coordinators(forNodes: 64)
                $0.portOffset = 100
                $0.isInsecure = true
            })
        let coordinators = plan.processes.filter { $0.role == .coordinator }
        #expect(coordinators.map(\.id) == ["coordinator-1", "coordinator-2", "coordinator-3"])
        #expect(
            coordinators[2].arguments == [
                "--data", "/d/coordinator-3", "--listen", "unix:/d/run/c3,127.0.0.1:50148", "--admin",
                "unix:/d/run/c3.admin", "--shards", "1", "--nodes", "64", "--id", "3", "--peers",
                "1=unix:/d/run/c1,1=127.0.0.1:50150,2=unix:/d/run/c2,2=127.0.0.1:50149,"
                    + "3=unix:/d/run/c3,3=127.0.0.1:50148", "--insecure",
            ])
        for spec in plan.processes where spec.role != .coordinator {
            #expect(spec.arguments.contains("unix:/d/run/c1,unix:/d/run/c2,unix:/d/run/c3"))
        }
        let addresses = plan.processes.flatMap(\.addresses)
        #expect(Set(addresses).count == addresses.count, "no two processes serve at one address")
        #expect([1, 2, 3, 64].map(ClusterOptions.coordinators(forNodes:)) == [1, 1, 3, 3])
    }

    @Test("gives the nodes their zones in turn")
    func zones() throws {
        let plan = try ClusterPlan(
            options {
                $0.nodes = 3
                $0.zones = ["a", "b"]
            })
        let given = plan.processes.map { spec in
            spec.arguments.firstIndex(of: "--zone").map { spec.arguments[$0 + 1] }
        }
        #expect(given == [nil, "a", "b", "a", nil, nil])
        #expect(try ClusterOptions.zones("", nodes: 1).isEmpty)
        #expect(try ClusterOptions.zones("rack-1,é", nodes: 2) == ["rack-1", "é"])
        let long = String(repeating: "x", count: 65)
        for text in ["a,,b", ",", "a b", "a\n", "a,b,c,d", long] {
            #expect(throws: UsageError.self) { try ClusterOptions.zones(text, nodes: 3) }
        }
    }

    @Test("names in a gateway's certificate where its clients reach it")
    func serverNames() {
        func names(_ listen: String) -> [String] {
            let names = ServerNames(listen: listen, machineName: "box", machineAddresses: ["127.0.0.1", "10.0.0.7"])
            return names.dnsNames + names.addresses
        }
        let local = ["localhost", "127.0.0.1", "::1"]
        #expect(names("127.0.0.1") == local)
        #expect(names("[::1]") == local)
        #expect(names("10.0.0.9") == local + ["10.0.0.9"])
        #expect(names("db.example") == ["localhost", "db.example", "127.0.0.1", "::1"])
        #expect(names("0.0.0.0") == ["localhost", "box", "127.0.0.1", "::1", "10.0.0.7"])
        #expect(names("::") == names("0.0.0.0"))
        #expect(ServerNames(listen: "::", machineName: "no_name", machineAddresses: []).dnsNames == ["localhost"])
    }

    @Test("drops TLS with --insecure, brackets IPv6, refuses bad hosts and long paths")
    func variants() throws {
        let insecure = try ClusterPlan(options { $0.isInsecure = true })
        #expect(insecure.processes.allSatisfy { !$0.arguments.contains("--tls-ca") })
        #expect(insecure.processes[0].arguments.contains("--insecure"))
        let everywhere = try ClusterPlan(options { $0.listen = "::" }).processes.suffix(2).map(\.addresses)
        #expect(everywhere == [["[::]:6379", "[::]:6380"], ["[::]:5432"]])
        #expect(throws: UsageError.self) { try ClusterPlan(options { $0.listen = "no such host" }) }
        #expect(throws: UsageError.self) {
            try ClusterPlan(ClusterOptions(data: "/" + String(repeating: "x", count: 100)))
        }
    }

    @Test("before there are certificates, config check leaves out the flags that name them and nothing else")
    func withoutCertificates() throws {
        let plan = try ClusterPlan(options())
        for spec in plan.processes {
            let left = spec.argumentsWithoutCertificates
            #expect(!left.contains { $0.contains("/d/tls/") } && left.contains("--listen"))
            #expect(left.contains("--insecure") == (!spec.role.isGateway))
        }
        let insecure = try ClusterPlan(options { $0.isInsecure = true }).processes[0]
        #expect(insecure.argumentsWithoutCertificates == insecure.arguments)
    }

    @Test("remembers its options")
    func state() throws {
        let made = options {
            $0.nodes = 3
            $0.shards = 16
            $0.coordinators = 3
            $0.portOffset = 200
            $0.listen = "0.0.0.0"
            $0.isInsecure = true
            $0.restarts = false
            $0.servesPostgres = false
            $0.zones = ["a", "b"]
        }
        let text = ClusterState(options: made).encode()
        #expect(try ClusterState(parsing: Bytes(text.utf8), data: "/d").options == made)
    }

    @Test(
        "refuses a damaged or newer state file",
        arguments: ["", "{}", #"{"format":2}"#, #"{"format":1,"nodes":0,"shards":1}"#, "[1]"])
    func damagedState(_ text: String) {
        #expect(throws: (any Error).self) { try ClusterState(parsing: Bytes(text.utf8), data: "/d") }
    }

    @Test("restarts at once after a long life, ever later in a crash loop")
    func restarts() {
        var policy = RestartPolicy()
        let delays = (0..<8).map { _ in policy.ended(afterMilliseconds: 5) }
        #expect(delays == [100, 200, 400, 800, 1600, 3200, 5000, 5000])
        #expect(policy.ended(afterMilliseconds: 60_000) == 100)
        #expect(policy.failures == 1)
    }

    @Test("finds the listener of a port in /proc/net/tcp")
    func portOwner() {
        let table = """
              sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
               0: 0100007F:18EB 00000000:0000 0A 00000000:00000000 00:00000000 00000000   102        0 14525 1 0 100 0
               1: 0100007F:18EC 0100007F:18EB 01 00000000:00000000 00:00000000 00000000   102        0 14526 1 0 100 0
            """
        #expect(PortOwner.listeningInode(port: 0x18EB, in: table) == "14525")
        #expect(PortOwner.listeningInode(port: 0x18EC, in: table) == nil)
        #expect(PortOwner.listeningInode(port: 1, in: "garbage\n\n a b c") == nil)
    }
}
