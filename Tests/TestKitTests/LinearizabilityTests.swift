import Base
import TestKit
import Testing

@Suite("Linearizability")
struct LinearizabilityTests {
    /// `begin…end action`; an end of nil is an unknown outcome.
    private func operation(
        _ begin: UInt64, _ end: UInt64?, _ action: RecordedOperation.Action, client: Int = 0
    ) -> RecordedOperation {
        RecordedOperation(
            client: client, action: action, invoked: begin, outcome: end.map { .completed($0) } ?? .unknown)
    }

    private func isGood(_ operations: RecordedOperation...) -> Bool {
        LinearizabilityChecker().check(operations) == .linearizable
    }

    private func isBad(_ operations: RecordedOperation...) -> Bool {
        if case .violated = LinearizabilityChecker().check(operations) { return true }
        return false
    }

    @Test("one after the other")
    func sequential() {
        #expect(isGood())
        #expect(isGood(operation(0, 1, .read([]))))
        #expect(isGood(operation(0, 1, .write(1)), operation(2, 3, .append(2)), operation(4, 5, .read([1, 2]))))
        #expect(isBad(operation(0, 1, .write(1)), operation(2, 3, .write(2)), operation(4, 5, .read([1]))))
        #expect(isBad(operation(0, 1, .append(1)), operation(2, 3, .append(2)), operation(4, 5, .read([2, 1]))))
    }

    @Test("a read may see a write that runs beside it, or not; once seen, it stays")
    func overlap() {
        #expect(isGood(operation(0, 10, .write(1)), operation(1, 2, .read([]))))
        #expect(isGood(operation(0, 10, .write(1)), operation(1, 2, .read([1]))))
        #expect(isGood(operation(0, 10, .write(1)), operation(1, 2, .read([])), operation(3, 4, .read([1]))))
        #expect(isBad(operation(0, 10, .write(1)), operation(1, 2, .read([1])), operation(3, 4, .read([]))))
        #expect(isGood(operation(0, 5, .write(1)), operation(5, 6, .read([]))), "the same instant overlaps")
    }

    @Test("two writes at once: all readers must agree on one order")
    func agreement() {
        #expect(
            isBad(
                operation(0, 10, .write(1)), operation(0, 10, .write(2)), operation(11, 12, .read([1])),
                operation(13, 14, .read([2]))))
        #expect(
            isGood(
                operation(0, 10, .write(1)), operation(0, 10, .write(2)), operation(3, 4, .read([1])),
                operation(13, 14, .read([2]))))
    }

    @Test("a write of unknown outcome happened late, early, or never")
    func unknown() {
        #expect(isGood(operation(0, nil, .write(1)), operation(5, 6, .read([]))))
        #expect(isGood(operation(0, nil, .write(1)), operation(5, 6, .read([])), operation(7, 8, .read([1]))))
        #expect(isBad(operation(0, nil, .write(1)), operation(5, 6, .read([1])), operation(7, 8, .read([]))))
        #expect(isBad(operation(5, nil, .write(1)), operation(0, 2, .read([1]))), "seen before it began")
        #expect(isGood(operation(0, nil, .read([]))))
    }

    @Test("what was refused has not happened, and an append happens once")
    func refusedAndTwice() {
        let refused = RecordedOperation(client: 0, action: .write(1), invoked: 0, outcome: .refused)
        #expect(isBad(refused, operation(5, 6, .read([1]))))
        #expect(isGood(refused, operation(5, 6, .read([]))))
        #expect(isBad(operation(0, 1, .append(1)), operation(2, 3, .read([1, 1]))))
        #expect(isBad(operation(0, nil, .append(1)), operation(2, 3, .read([1, 1]))))
    }

    @Test("a search that grows too large is given up, not answered")
    func bound() {
        // Many writes at once, and reads that no order explains: everything must be tried.
        var operations = (1...12).map { operation(0, 100, .append($0), client: $0) }
        operations.append(operation(101, 102, .read([1])))
        let verdict = LinearizabilityChecker(maximumStates: 1000).check(operations)
        #expect(verdict == .undecided)
    }

    /// Six operations at random times with random answers: the search agrees with trying all orders.
    @Test("agrees with trying every order")
    func bruteForce() {
        let seed = freshSeed("linearizability")
        var random = SplitMix64(seed: seed)
        var good = 0
        for _ in 0..<3000 {
            var operations: [RecordedOperation] = []
            for number in 1...6 {
                let begin = random.next(below: 12)
                let end = random.oneIn(5) ? nil : begin + random.next(below: 8)
                let action: RecordedOperation.Action
                switch random.next(below: 4) {
                case 0: action = .write(number)
                case 1: action = .append(number)
                case _: action = .read((0..<random.next(below: 3)).map { _ in 1 + Int(random.next(below: 6)) })
                }
                operations.append(operation(begin, end, action, client: number))
            }
            let expected = Self.hasOrder(operations[...], content: [])
            good += expected ? 1 : 0
            #expect((LinearizabilityChecker().check(operations) == .linearizable) == expected, "\(operations)")
        }
        #expect(good > 50 && good < 2950, "both kinds must come up")
    }

    private static func end(_ operation: RecordedOperation) -> UInt64 {
        if case .completed(let time) = operation.outcome { return time }
        return .max
    }

    private static func hasOrder(_ left: ArraySlice<RecordedOperation>, content: [Int]) -> Bool {
        if left.allSatisfy({ end($0) == .max }) { return true }
        let earliest = left.map(end).min() ?? .max
        for position in left.indices where left[position].invoked <= earliest {
            var rest = left
            let operation = rest.remove(at: position)
            switch operation.action {
            case .write(let number): if hasOrder(rest, content: [number]) { return true }
            case .append(let number): if hasOrder(rest, content: content + [number]) { return true }
            case .read(let numbers):
                if end(operation) == .max || numbers == content, hasOrder(rest, content: content) { return true }
            }
        }
        return false
    }

    /// Clients of a list that takes effect at a random instant inside each operation.
    @Test("a true history passes, and one altered answer fails")
    func generated() {
        let seed = freshSeed("linearizability")
        var random = SplitMix64(seed: seed)
        for _ in 0..<50 {
            var content: [Int] = []
            var operations: [RecordedOperation] = []
            for number in 1...150 {
                let instant = 100 + UInt64(number) * 10
                let begin = instant - random.next(below: 60)
                let end = random.oneIn(10) ? nil : instant + random.next(below: 60)
                let action: RecordedOperation.Action
                switch random.next(below: 10) {
                case 0:
                    action = .write(number)
                    content = [number]
                case 1..<5:
                    action = .append(number)
                    content.append(number)
                case _: action = .read(content)
                }
                operations.append(operation(begin, end, action, client: number % 10))
            }
            #expect(LinearizabilityChecker().check(operations) == .linearizable)
            operations.append(operation(3000, 3001, .read(content + [9999])))
            #expect(LinearizabilityChecker().check(operations) != .linearizable)
        }
    }
}
