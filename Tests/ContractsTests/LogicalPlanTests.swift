import Base
import Contracts
import TestKit
import Testing

@Suite("LogicalPlan")
struct LogicalPlanTests {
    /// SELECT a FROM t WHERE a = 1
    static let plan = LogicalPlan(
        dialect: .postgres,
        nodes: [
            .init(.none), .init(.columnReference, [0], name: "a", position: 8), .init(.target, [1], position: 8),
            .init(.list, [2]), .init(.table, [0, 0], name: "t", position: 15), .init(.list, [4]),
            .init(.columnReference, [0], name: "a", position: 23), .init(.integer, number: 1, position: 27),
            .init(.operator, [6, 7, 0], name: "=", position: 25),
            .init(.select, [0, 0, 3, 5, 8, 0, 0, 0, 0, 0, 0, 0], position: 1),
        ], root: 9)

    @Test("every kind but none has a shape, and a slot for the rest only at its end")
    func shapes() {
        for kind in PlanKind.allCases {
            #expect((kind.shape.family == .none) == (kind == .none), "\(kind)")
            #expect(!kind.shape.slots.dropLast().contains { $0.isRest }, "\(kind)")
        }
    }

    @Test("is described as text")
    func description() throws {
        try Self.plan.validate()
        #expect(
            Self.plan.describe() == """
                select(
                  targets: [target(value: columnReference a)]
                  from: [table t]
                  where: operator '='(left: columnReference a, right: integer 1)
                )
                """)
    }

    private func isRefused(_ change: (inout LogicalPlan) -> Void) -> Bool {
        var plan = Self.plan
        change(&plan)
        do throws(DatabaseError) { try plan.validate() } catch { return true }
        return false
    }

    @Test("refuses what is no tree of known shapes")
    func refusals() {
        #expect(isRefused { $0.nodes = [] })
        #expect(isRefused { $0.nodes[0] = .init(.null) })
        #expect(isRefused { $0.root = 10 })
        #expect(isRefused { $0.root = -1 })
        #expect(isRefused { $0.root = 8 }, "an expression is no statement")
        #expect(isRefused { $0.nodes[8].children[0] = 8 }, "a circle")
        #expect(isRefused { $0.nodes[8].children[0] = 9 }, "a child above its parent")
        #expect(isRefused { $0.nodes[8].children[0] = -1 })
        #expect(isRefused { $0.nodes[8].children[0] = 7 }, "two parents")
        #expect(isRefused { $0.nodes[8].children[1] = 0 }, "an operator without an operand")
        #expect(isRefused { $0.nodes[8].children = [6, 7] }, "too few children")
        #expect(isRefused { $0.nodes[8].children[2] = 4 }, "a relation where a name belongs")
        #expect(isRefused { $0.nodes[3].children = [] }, "an empty list")
        #expect(isRefused { $0.nodes[1] = .init(.none) })
    }

    @Test("refuses what nests too deep, and takes what is just not too deep")
    func depth() {
        func nested(_ depth: Int) -> LogicalPlan {
            var nodes: [LogicalPlan.Node] = [.init(.none), .init(.null)]
            for index in 0..<depth { nodes.append(.init(.not, [Int32(index + 1)])) }
            nodes.append(.init(.list, [Int32(nodes.count - 1)]))
            nodes.append(.init(.execute, [Int32(nodes.count - 1)], name: "x"))
            return LogicalPlan(dialect: .postgres, nodes: nodes, root: Int32(nodes.count - 1))
        }
        #expect(throws: Never.self) { try nested(LogicalPlan.depthLimit - 3).validate() }
        #expect(throws: DatabaseError.self) { try nested(LogicalPlan.depthLimit - 2).validate() }
        #expect(throws: DatabaseError.self) { try nested(100_000).validate() }
    }
}
