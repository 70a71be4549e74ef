import Base
import Contracts
import DataModel

/// Writes the plan of a view: every name said in full, so that it means the same whatever is added or renamed later.
///
/// `*` is spelled out, targets have names, tables and their columns have numbers, NATURAL says by which columns.
struct ViewPlan {
    private let source: LogicalPlan
    private let found: ViewRecorder
    private var nodes = [LogicalPlan.Node(.none)]

    /// The query of `source` at `root`, bound with `found`; `names` are those of its first columns.
    static func make(
        _ source: LogicalPlan, _ root: Int32, _ found: ViewRecorder, names: [String]
    ) -> LogicalPlan {
        var writer = ViewPlan(source: source, found: found)
        let top = writer.copy(root)
        var plan = LogicalPlan(dialect: source.dialect, nodes: writer.nodes, root: top)
        plan.renameTargets(names)
        return plan
    }

    private init(source: LogicalPlan, found: ViewRecorder) { (self.source, self.found) = (source, found) }

    private mutating func add(_ node: LogicalPlan.Node) -> Int32 {
        nodes.append(node)
        return Int32(truncatingIfNeeded: nodes.count - 1)
    }

    /// A validated plan is of bounded depth.
    private mutating func copy(_ index: Int32) -> Int32 {
        guard index != 0 else { return 0 }
        var node = source[index]
        node.position = 0
        switch node.kind {
        case .list:
            var elements: [Int32] = []
            for child in node.children { elements += element(child) }
            guard !elements.isEmpty else { return 0 }
            return add(.init(.list, elements))
        case .columnReference:
            // What a client says of numbers does not count.
            node.number = 0
            guard let column = found.columns[index] else { break }
            return reference(column)
        case .table:
            node.number = 0
            guard let id = found.tables[index] else { break }
            node.number = Int64(id.rawValue)
            let qualifier = copy(node.children[0])
            let alias = node.children[1] == 0 ? add(.init(.alias, [0], name: node.name)) : copy(node.children[1])
            node.children = [qualifier, alias]
            return add(node)
        case .join:
            guard node.flags.contains(.isNatural), let names = found.naturals[index] else { break }
            return natural(node, names)
        case _: break  // Nothing in others but what is below them.
        }
        var children: [Int32] = []
        for child in node.children { children.append(copy(child)) }
        node.children = children
        return add(node)
    }

    private mutating func element(_ index: Int32) -> [Int32] {
        var node = source[index]
        guard node.kind == .target else { return [copy(index)] }
        if let columns = found.stars[node.children[0]] {
            return columns.map { column in
                let value = reference(column)
                return add(.init(.target, [value], name: column.name))
            }
        }
        node.position = 0
        if node.name.isEmpty, let name = found.targets[index] { node.name = name }
        node.children = [copy(node.children[0])]
        return [add(node)]
    }

    private mutating func reference(_ column: ViewRecorder.Column) -> Int32 {
        var qualifier: Int32 = 0
        if let relation = column.relation, !relation.isEmpty { qualifier = add(.init(.name, [0], name: relation)) }
        return add(.init(.columnReference, [qualifier], name: column.name, number: column.number))
    }

    private mutating func natural(_ join: LogicalPlan.Node, _ names: [String]) -> Int32 {
        var node = join
        node.flags.remove(.isNatural)
        node.position = 0
        let left = copy(node.children[0]), right = copy(node.children[1])
        var condition: Int32 = 0, using: Int32 = 0
        if !names.isEmpty {
            let columns = names.map { add(.init(.identifier, name: $0)) }
            using = add(.init(.list, columns))
        } else if node.number == 0 {
            node.number = 4
        } else {
            condition = add(.init(.boolean, number: 1))
        }
        node.children = [left, right, condition, using, copy(node.children[4])]
        return add(node)
    }
}

extension LogicalPlan {
    /// Names the columns of the query, as those of the first select block of a set operation.
    fileprivate mutating func renameTargets(_ names: [String]) {
        var index = root
        while self[index].kind == .setOperation { index = self[index].children[1] }
        guard self[index].kind == .select else { return }
        for (target, name) in zip(list(self[index].children[2]), names) { nodes[Int(target)].name = name }
    }

    /// Whether the query of a view reads a collection, or that column of it.
    func reads(_ collection: CollectionID, _ column: ColumnID? = nil) -> Bool {
        nodes.contains { (node: Node) -> Bool in
            switch node.kind {
            case .table: column == nil && node.number == Int64(collection.rawValue)
            case .columnReference: column.map { node.number == ViewNumber.of(collection, $0) } ?? false
            case _: false
            }
        }
    }

    /// A table that has another number from now on.
    mutating func renumber(_ old: CollectionID, _ new: CollectionID) {
        for index in nodes.indices {
            let number = nodes[index].number
            switch nodes[index].kind {
            case .table where number == Int64(old.rawValue): nodes[index].number = Int64(new.rawValue)
            case .columnReference where number != 0 && ViewNumber.collection(number) == old:
                nodes[index].number = ViewNumber.of(new, ViewNumber.column(number))
            case _: break
            }
        }
    }

    /// The names of a table and its columns as they are now; its number was another one before its rows were written
    /// anew.
    mutating func rename(_ table: CollectionDescriptor, was id: CollectionID, in namespace: String) {
        for index in nodes.indices {
            let number = nodes[index].number
            if nodes[index].kind == .table, number == Int64(id.rawValue) {
                nodes[index].name = table.name
                nodes[index].number = Int64(table.id.rawValue)
                let qualifier = Int(nodes[index].children[0])
                if qualifier != 0 { nodes[qualifier].name = namespace }
            } else if nodes[index].kind == .columnReference, ViewNumber.collection(number) == id, number != 0,
                let column = table.column(ViewNumber.column(number))
            {
                nodes[index].name = column.name
                nodes[index].number = ViewNumber.of(table.id, column.id)
            }
        }
    }
}
