import Net
import Testing

/// How many events a tick takes.
@Suite struct TickSizeTests {
    /// The size after `periods` counts in which `sources` have events in turn, as many a tick as it takes.
    private func events(_ periods: Int, sources: Int, from size: TickSize = TickSize()) -> TickSize {
        var size = size, marks = [UInt32](repeating: 0, count: sources), next = 0
        for _ in 0..<periods * Int(TickSize.period) {
            for _ in 0..<min(size.events, sources) {
                size.note(&marks[next])
                next = (next + 1) % sources
            }
            size.endTick()
        }
        return size
    }

    @Test func takesAPartOfTheActiveSources() {
        #expect(TickSize().events == TickSize.most)
        #expect(events(1, sources: 1).events == TickSize.least)
        #expect(events(1, sources: 9).events == 9 / TickSize.share)
        #expect(events(1, sources: 51).events == 51 / TickSize.share)
        #expect(events(1, sources: 5000).events == TickSize.most)
    }

    @Test func followsTheLoadBothWays() {
        let few = events(2, sources: 9)
        #expect(few.events == 9 / TickSize.share)
        let many = events(2, sources: 1000, from: few)
        #expect(many.events == TickSize.most)
        #expect(events(2, sources: 9, from: many).events == 9 / TickSize.share)
    }

    /// A source that has been quiet is not counted, and one that comes back is.
    @Test func countsASourceOnceAPeriod() {
        var size = TickSize(), mark: UInt32 = 0, other: UInt32 = 0
        for period in 0..<5 {
            for _ in 0..<TickSize.period {
                size.note(&mark)
                if period == 4 { size.note(&other) }
                size.endTick()
            }
            #expect(size.events == TickSize.least)
            #expect((other != 0) == (period == 4))
        }
    }
}
