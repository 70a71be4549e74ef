import ServiceKit
import Testing

import Orbit

@Suite("Tables of nodes and shards")
struct PlacementTableTests {
    private let processes = [
        (id: "storage-node-1", addresses: ["unix:/d/n1", "127.0.0.1:1"]),
        (id: "storage-node-2", addresses: ["unix:/d/n2"]),
    ]

    private func table(_ text: String) throws -> PlacementTable? {
        PlacementTable(try JSON(parsing: text.replacing("'", with: "\"")), processes: processes)
    }

    @Test("show who holds, leads, copies and lags")
    func rows() throws {
        let table = try table(
            """
            {'nodes': [
              {'id': 1, 'state': 'up', 'zone': 'a', 'draining': true, 'addresses': ['127.0.0.1:1']},
              {'id': 2, 'state': 'up', 'zone': 'b', 'draining': false, 'addresses': ['unix:/d/n2']},
              {'id': 5, 'state': 'down', 'zone': '', 'draining': false, 'addresses': ['elsewhere:1']}],
             'shards': [
              {'id': 0, 'leader': 2, 'term': 3, 'replicas': [1, 2], 'learners': [5], 'settled': false,
               'buckets': [[0, 64], [96, 128]], 'adding': 5, 'replacing': 1, 'nextLeader': 0, 'bytes': 12345678,
               'rate': 70, 'applied': [{'node': 2, 'lag': 0}, {'node': 1, 'lag': 4}, {'node': 5, 'lag': 4}]},
              {'id': 1, 'leader': 0, 'term': 0, 'replicas': [2], 'learners': [], 'settled': true,
               'buckets': [[64, 96]], 'adding': 0, 'replacing': 0, 'nextLeader': 2},
              {'id': 2, 'leader': 1, 'term': 9, 'replicas': [1, 2], 'learners': [], 'settled': false, 'buckets': [],
               'adding': 2, 'replacing': 1, 'nextLeader': 2, 'bytes': 0, 'rate': 0, 'applied': []}]}
            """)
        #expect(
            table?.lines == [
                "NODE  PROCESS         STATE         ZONE  SHARDS  LEADS",
                "1     storage-node-1  up, draining  a     2       1",
                "2     storage-node-2  up            b     3       1",
                "5     -               down          -     1       0",
                "",
                "SHARD  BUCKETS      LEADER  REPLICAS            SIZE   RATE  LAG         UNDER WAY",
                "0      0-63,96-127  2@b     1@a 2@b, learner 5  12 MB  70/s  4 (node 1)  "
                    + "node 5 copies, then node 1 leaves",
                "1      64-95        none    2@b                 -      -     -           node 2 is to lead",
                "2                   1@a     1@a 2@b             0 B    0/s   -           "
                    + "node 2 votes, then node 1 leaves; node 2 is to lead",
            ])
    }

    @Test("are of the coordinator that leads, whatever else is said")
    func others() throws {
        #expect(try table("{'raft': 'follows'}") == nil)
        #expect(try table("{'shards': [{'id': 0, 'leader': true, 'committed': 7}]}") == nil)
        #expect(try table("{'nodes': [], 'shards': []}") == nil)
        #expect(try table("{'nodes': [{}], 'shards': [{'replicas': 3}]}")?.lines.count == 5)
    }
}
