/// The last numbers of sequences that a session has seen: what `currval` and `lastval` tell.
///
/// As many sequences are known as `limit` says; with a further one, some other is forgotten.
package struct SessionSequences: Hashable, Sendable {
    package static let limit = 1024
    private var numbers: [UInt32: Int64] = [:]
    private var lastDrawn: UInt32?

    package init() {}

    /// As they travel with a request.
    package init(_ list: [SequenceNumber]) { for known in list { note(known) } }

    package var isEmpty: Bool { numbers.isEmpty }

    /// As they travel with a request.
    package var list: [SequenceNumber] {
        numbers.map { SequenceNumber($0.key, $0.value, isDrawn: $0.key == lastDrawn) }
    }

    package func number(of sequence: UInt32) -> Int64? { numbers[sequence] }

    /// Of the sequence that was drawn from last.
    package var last: Int64? { lastDrawn.flatMap { numbers[$0] } }

    package mutating func note(_ news: SequenceNumber) {
        if numbers.count >= Self.limit, numbers[news.sequence] == nil {
            if let other = numbers.keys.first(where: { $0 != lastDrawn }) { numbers[other] = nil }
        }
        numbers[news.sequence] = news.number
        if news.isDrawn { lastDrawn = news.sequence }
    }
}
