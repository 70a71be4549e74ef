import Base
import Contracts
import DataModel
import Engine
import GatewayKit
import Net

/// One execution of a statement on the node's loop: takes steps of the engine until a page of rows is full, gives way
/// to other work between them, and goes on when the shards have answered.
///
/// Invariants. `onPage` is called once for `start` and for each `fetch`. After the last page, or an error, nothing is
/// done any more.
final class StatementRun {
    /// Bytes of rows that one reply holds, and how long the loop is taken for at once.
    static let pageBytes = 256 << 10, sliceNanoseconds: UInt64 = 1_000_000

    struct Page {
        var rows: [Bytes] = []
        /// There are none behind these, and the statement is done.
        var isLast = false
        var failure: StatementError?
    }

    private let execution: Execution
    private let keeper: RowKeeper
    private let loop: EventLoop
    private var page = Page()
    private var pageSize = 0
    /// Rows that the page may have; nil: any number.
    private var wanted: Int?
    /// Rows that the engine gave beyond the page.
    private var left: ArraySlice<Bytes> = []
    private var onPage: ((Page) -> Void)?
    private var isScheduled = false, hasEnded = false, isCancelled = false

    /// What the statement came to, once the last page was told.
    var count: UInt64 { UInt64(clamping: execution.count) }

    /// Tells what it did with sequences since this was called last.
    func tellSequences(in reply: inout QueryReply) { reply.sequences += execution.takeSequences() }

    init(_ execution: Execution, _ keeper: RowKeeper, _ loop: EventLoop) {
        (self.execution, self.keeper, self.loop) = (execution, keeper, loop)
        keeper.onProgress = { [weak self] in self?.schedule() }
    }

    /// Rows up to `limit`, or as many as a page holds.
    func fetch(_ limit: Int?, _ onPage: @escaping (Page) -> Void) {
        (wanted, self.onPage, page, pageSize) = (limit, onPage, Page(), 0)
        schedule()
    }

    /// Gives it up: what is waited for fails, at once, or, where a call to a shard must come back first, then.
    func cancel(afterCall: Bool = false) {
        guard onPage != nil, !hasEnded else { return }
        execution.cancel()
        isCancelled = true
        if !afterCall { schedule() }
    }

    /// The loop looks at the network between jobs that have taken a millisecond.
    private func schedule() {
        guard !isScheduled, onPage != nil else { return }
        isScheduled = true
        loop.runLater { [self] in
            isScheduled = false
            advance()
        }
    }

    private var isFull: Bool { pageSize >= Self.pageBytes || wanted.map { page.rows.count >= $0 } ?? false }

    private func advance() {
        guard onPage != nil else { return }
        if isCancelled {
            page = Page(failure: StatementHandle.cancelled)
            hasEnded = true
            return tell()
        }
        let until = loop.now &+ Self.sliceNanoseconds
        while true {
            while !isFull, let row = left.popFirst() {
                page.rows.append(row)
                pageSize += row.count
            }
            if hasEnded, left.isEmpty {
                page.isLast = true
                return tell()
            }
            if isFull { return tell() }
            do throws(StatementError) {
                switch try execution.nextRows() {
                case .rows(let rows): left = rows[...]
                case .waiting: return  // `onProgress` goes on.
                case .paused: break
                case .end: hasEnded = true
                }
            } catch {
                page.failure = error
                hasEnded = true
                return tell()
            }
            if monotonicNanoseconds() > until { return schedule() }
        }
    }

    private func tell() {
        let told = onPage
        onPage = nil
        told?(page)
    }
}
