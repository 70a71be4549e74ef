import Base

/// Decides whether what clients saw of one key is linearizable: whether every operation can be given one instant
/// between its beginning and its end so that, in the order of the instants, everybody saw the right thing.
///
/// The search is Wing and Gong's with Lowe's memory: it takes operations off the history one by one, in an order that
/// real time allows, and never visits the same pair (operations taken, content) twice. Where numbers are unique, an
/// operation of unknown outcome is first given an end: a write that no read has seen can be left out (whatever order
/// there is with it, there is one without), and one that was seen had happened when the first such read returned. So
/// a history with many of them costs no more than one without. Also, a number that some read has seen was added behind
/// just what that read shows before it, and what no read has seen may as well be forgotten: so the order of writes at
/// the same time need not be guessed.
package struct LinearizabilityChecker: Sendable {
    /// What became of the question.
    package enum Verdict: Hashable, Sendable {
        case linearizable
        /// No order explains it; the text names the operation at which the best attempt ended.
        case violated(String)
        /// The search was given up after `maximumStates`.
        case undecided
    }

    /// Pairs visited at most.
    package var maximumStates: Int

    package init(maximumStates: Int = 1 << 20) { self.maximumStates = maximumStates }

    /// Checks the operations of one key, which begins empty.
    package func check(_ operations: [RecordedOperation]) -> Verdict {
        let isUnique = Self.areNumbersUnique(operations)
        var search = Search(Self.resolved(operations, isUnique), limit: maximumStates, isUnique: isUnique)
        return search.run()
    }

    /// Every key by itself: linearizability is local. The first verdict that is not `linearizable`.
    package func check(_ history: OperationHistory) -> (key: Int, verdict: Verdict)? {
        for (key, operations) in history.keys.enumerated() {
            let verdict = check(operations)
            if verdict != .linearizable { return (key, verdict) }
        }
        return nil
    }

    /// An operation with an end; `.max` when nobody knows it.
    struct Operation {
        var action: RecordedOperation.Action
        var client: Int
        var begin: UInt64
        var end: UInt64
    }

    private static func areNumbersUnique(_ operations: [RecordedOperation]) -> Bool {
        var seen: Set<Int> = []
        return operations.allSatisfy { operation in
            switch operation.action {
            case .write(let number), .append(let number): seen.insert(number).inserted
            case .read: true
            }
        }
    }

    /// Leaves out what did not happen, and ends what is known to have happened.
    private static func resolved(_ operations: [RecordedOperation], _ isUnique: Bool) -> [Operation] {
        var firstSeen: [Int: UInt64] = [:]
        for operation in operations {
            guard case .read(let numbers) = operation.action, case .completed(let time) = operation.outcome else {
                continue
            }
            for number in numbers { firstSeen[number] = min(firstSeen[number] ?? .max, time) }
        }
        return operations.compactMap { operation in
            var end: UInt64
            switch (operation.outcome, operation.action) {
            case (.completed(let time), _): end = time
            case (.refused, _), (.unknown, .read): return nil
            case (.unknown, .write(let number)), (.unknown, .append(let number)):
                end = .max
                if isUnique {
                    guard let seen = firstSeen[number] else { return nil }
                    end = seen
                }
            }
            end = max(end, operation.invoked)
            return Operation(
                action: operation.action, client: operation.client, begin: operation.invoked, end: end)
        }
    }
}

/// One search; see `LinearizabilityChecker`.
private struct Search {
    private struct Visited: Hashable {
        var taken: [UInt64]
        var content: Int32
    }

    /// A list of contents by number, so that two are compared at once: each is another one with a number behind it.
    private struct Contents {
        private struct Step: Hashable {
            var before: Int32
            var number: Int
        }

        static let empty: Int32 = 0
        /// Whatever no read has seen.
        static let unseen: Int32 = -1
        /// What cannot be: two reads disagree about it.
        static let impossible: Int32 = -2
        private var numbers: [Step: Int32] = [:]

        mutating func adding(_ number: Int, to content: Int32) -> Int32 {
            let next = Int32(truncatingIfNeeded: numbers.count + 1)
            let step = Step(before: content, number: number)
            if let known = numbers[step] { return known }
            numbers[step] = next
            return next
        }
    }

    private enum Step {
        case set(Int)
        case append(Int)
        case expect(Int32)
    }

    private let isUnique: Bool
    /// The content that a number makes, if a read has seen it.
    private var made: [Int: Int32] = [:]
    private let operations: [LinearizabilityChecker.Operation]
    private let limit: Int
    private var steps: [Step] = []
    private var contents = Contents()
    /// The beginnings and ends in the order of time as a list with links: `2 * operation` begins it, one more ends it.
    private var next: [Int32] = []
    private var previous: [Int32] = []
    private let head: Int32
    private var taken: [UInt64]
    private var visited: Set<Visited> = []
    /// Operations with an end that are not taken yet.
    private var open: Int

    init(_ operations: [LinearizabilityChecker.Operation], limit: Int, isUnique: Bool) {
        self.operations = operations
        self.isUnique = isUnique
        self.limit = limit
        head = Int32(operations.count * 2)
        taken = Array(repeating: 0, count: (operations.count + 63) / 64)
        open = operations.reduce(0) { $0 + ($1.end == .max ? 0 : 1) }
        for operation in operations {
            switch operation.action {
            case .write(let number): steps.append(.set(number))
            case .append(let number): steps.append(.append(number))
            case .read(let numbers): steps.append(.expect(read(numbers)))
            }
        }
        link()
    }

    /// Takes note of what a read says about the numbers in it.
    private mutating func read(_ numbers: [Int]) -> Int32 {
        var content = Contents.empty
        for number in numbers {
            content = contents.adding(number, to: content)
            if made[number] ?? content != content { made[number] = Contents.impossible } else { made[number] = content }
        }
        return content
    }

    private mutating func link() {
        let count = operations.count * 2
        func time(_ entry: Int) -> UInt64 { entry & 1 == 0 ? operations[entry / 2].begin : operations[entry / 2].end }
        // At the same instant beginnings come first: the operations overlap then, which forbids less.
        let order = (0..<count).sorted { left, right in
            (time(left), left & 1, left) < (time(right), right & 1, right)
        }
        next = Array(repeating: head, count: count + 1)
        previous = next
        var last = Int(head)
        for entry in order {
            next[last] = Int32(entry)
            previous[entry] = Int32(last)
            last = entry
        }
        next[last] = head
        previous[Int(head)] = Int32(last)
    }

    mutating func run() -> LinearizabilityChecker.Verdict {
        var stack: [(operation: Int, content: Int32)] = []
        var content = Contents.empty
        var entry = next[Int(head)]
        var best = 0
        var stuck = 0
        while open > 0 {
            guard entry & 1 == 0, entry != head else {
                // An end, and its operation is not taken: the last one taken was wrong.
                if stack.count >= best { (best, stuck) = (stack.count, Int(entry) / 2) }
                guard let (operation, before) = stack.popLast() else { return .violated(explain(stuck, best)) }
                content = before
                put(operation)
                entry = next[operation * 2]
                continue
            }
            let operation = Int(entry) / 2
            if let after = apply(operation, to: content), remember(operation, after) {
                if visited.count > limit { return .undecided }
                stack.append((operation, content))
                content = after
                take(operation)
                entry = next[Int(head)]
            } else {
                entry = next[Int(entry)]
            }
        }
        return .linearizable
    }

    private mutating func apply(_ operation: Int, to content: Int32) -> Int32? {
        switch steps[operation] {
        case .set(let number): return self.content(of: number, behind: Contents.empty)
        case .append(let number): return self.content(of: number, behind: content)
        case .expect(let expected): return content == expected ? content : nil
        }
    }

    /// Nil when a read contradicts it.
    private mutating func content(of number: Int, behind before: Int32) -> Int32? {
        guard isUnique else { return contents.adding(number, to: before) }
        guard let seen = made[number] else { return Contents.unseen }
        return contents.adding(number, to: before) == seen ? seen : nil
    }

    /// False when the pair was visited before.
    private mutating func remember(_ operation: Int, _ content: Int32) -> Bool {
        var key = Visited(taken: taken, content: content)
        key.taken[operation / 64] |= 1 << UInt64(operation & 63)
        return visited.insert(key).inserted
    }

    private mutating func take(_ operation: Int) {
        taken[operation / 64] |= 1 << UInt64(operation & 63)
        if operations[operation].end != .max { open -= 1 }
        for entry in [operation * 2, operation * 2 + 1] {
            next[Int(previous[entry])] = next[entry]
            previous[Int(next[entry])] = previous[entry]
        }
    }

    /// Undoes the newest `take`: the links of what was taken last still say where it was.
    private mutating func put(_ operation: Int) {
        taken[operation / 64] &= ~(1 << UInt64(operation & 63))
        if operations[operation].end != .max { open += 1 }
        for entry in [operation * 2 + 1, operation * 2] {
            next[Int(previous[entry])] = Int32(entry)
            previous[Int(next[entry])] = Int32(entry)
        }
    }

    private func explain(_ operation: Int, _ explained: Int) -> String {
        guard operations.indices.contains(operation) else { return "nothing can come first" }
        let culprit = operations[operation]
        let around = operations.filter { $0.begin <= culprit.end && $0.end >= culprit.begin }
        let lines = around.prefix(12).map(Self.describe)
        return
            "\(explained) of \(operations.count) operations can be ordered, then none fits: \(Self.describe(culprit))"
            + ", while \(lines.joined(separator: "; "))"
    }

    private static func describe(_ operation: LinearizabilityChecker.Operation) -> String {
        let end = operation.end == .max ? "?" : String(operation.end)
        return "client \(operation.client) \(operation.action) \(operation.begin)…\(end)"
    }
}
