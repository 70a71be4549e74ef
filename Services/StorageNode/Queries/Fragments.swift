import Actors
import Base
import Contracts
import DataModel
import Engine

/// The fragments of the plans that this node keeps, by names that only it knows: a shard that it does not lead answers
/// that it knows none, and its rows come as rows.
final class Fragments {
    struct Entry {
        let fragment: ScanFragment
        let settings: EngineSettings
    }

    /// Of this process: a name of another one is not known.
    private let origin: UInt64
    private var last: UInt64 = 0
    private var entries: [UInt64: Entry] = [:]

    init() {
        var random = SystemRandom()
        origin = random.next()
    }

    var count: Int { entries.count }

    /// Nil where the plan has none.
    func keep(_ prepared: PreparedPlan, _ settings: EngineSettings) -> KeptFragments? {
        let fragments = prepared.fragments
        guard !fragments.isEmpty else { return nil }
        let first = last + 1
        for fragment in fragments {
            last += 1
            entries[last] = Entry(fragment: fragment, settings: settings)
        }
        return KeptFragments(self, first..<last + 1)
    }

    fileprivate func forget(_ numbers: Range<UInt64>) { for number in numbers { entries[number] = nil } }

    fileprivate func name(_ number: UInt64) -> Bytes {
        var name = ByteBuffer(capacity: 16)
        name.append(bigEndian: origin)
        name.append(bigEndian: number)
        return name.readable.bytes
    }

    func entry(_ name: ByteView) -> Entry? {
        var reader = ByteReader(name)
        guard name.count == 16, reader.bigEndian(UInt64.self) == origin, let number = reader.bigEndian(UInt64.self)
        else { return nil }
        return entries[number]
    }
}

/// The fragments of one plan, known as long as somebody holds this: the table of plans, and executions.
final class KeptFragments {
    private let fragments: Fragments
    private let numbers: Range<UInt64>

    fileprivate init(_ fragments: Fragments, _ numbers: Range<UInt64>) {
        (self.fragments, self.numbers) = (fragments, numbers)
    }

    deinit { fragments.forget(numbers) }

    /// `number`: of the fragment among those of its plan.
    func name(of number: Int) -> Bytes? {
        guard number >= 0, number < numbers.count else { return nil }
        return fragments.name(numbers.lowerBound + UInt64(number))
    }
}
