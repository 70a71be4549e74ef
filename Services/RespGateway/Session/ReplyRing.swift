import Base

/// The replies a client is waiting for, in the order of its commands.
///
/// A command that cannot be answered at once gets a token, the next number of the session. Its place in the ring is
/// the token modulo the capacity, a power of two that grows with the pipeline. Answers may come in any order: one for
/// the head leaves at once, others are parked until everything before them has left.
final class ReplyRing {
    enum State: UInt8 { case waiting, done }

    struct Entry {
        var state = State.waiting
        var shape = ReplyShape.plain
        var version = RESPVersion.two
        /// CLIENT REPLY OFF or SKIP: the answer is dropped.
        var isMuted = false
        /// The command's number in the table.
        var command: UInt16 = 0
        /// Where the parked answer is, or -1.
        var parked: Int32 = -1
        /// Monotonic nanoseconds at arrival.
        var started: UInt64 = 0
        /// For the slow log: the first word after the name, as far as it fits.
        var argument = ArgumentPrefix()
    }

    private var entries: UnsafeMutablePointer<Entry>
    private(set) var capacity = 16
    /// The oldest token whose answer has not left, and the next token.
    private(set) var head: UInt64 = 1
    private(set) var tail: UInt64 = 1
    private var parked: [Bytes] = []
    private var free: [Int32] = []
    /// Answers that are there, but not their turn.
    private var done = 0
    /// Bytes of parked answers.
    private(set) var parkedBytes = 0

    init() {
        entries = .allocate(capacity: capacity)
        entries.initialize(repeating: Entry(), count: capacity)
    }

    deinit { entries.deallocate() }

    @inline(__always) var count: Int { Int(tail &- head) }

    /// Places whose answer has not come.
    var waitingCount: Int { count - done }

    @inline(__always) var isEmpty: Bool { head == tail }

    @inline(__always) func isWaiting(_ token: UInt64) -> Bool {
        token >= head && token < tail && self[token].state == .waiting
    }

    @inline(__always) subscript(_ token: UInt64) -> Entry { entries[Int(token & UInt64(capacity - 1))] }

    /// Takes the next place; its token is what `tail` was.
    @inline(__always) func push(_ entry: Entry) {
        if count == capacity { grow() }
        entries[Int(tail & UInt64(capacity - 1))] = entry
        tail &+= 1
    }

    /// Takes the next place with an answer that is there already.
    func push(answer: ByteView) {
        var entry = Entry()
        entry.state = .done
        entry.parked = store(answer)
        done += 1
        push(entry)
    }

    /// Keeps the answer to `token` until its turn.
    func park(_ token: UInt64, _ answer: ByteView) {
        let position = Int(token & UInt64(capacity - 1))
        entries[position].state = .done
        entries[position].parked = store(answer)
        done += 1
    }

    /// The head's answer has left; so do those that are parked right behind it.
    @inline(__always) func releaseHead(into output: inout ByteBuffer) {
        head &+= 1
        if done > 0 { releaseDone(into: &output) }
    }

    private func releaseDone(into output: inout ByteBuffer) {
        while head < tail {
            let entry = self[head]
            guard entry.state == .done else { return }
            if entry.parked >= 0 {
                let index = Int(entry.parked)
                output.append(parked[index])
                parkedBytes -= parked[index].count
                parked[index] = []
                free.append(entry.parked)
            }
            done -= 1
            head &+= 1
        }
        if parked.count > 64, free.count == parked.count {
            parked = []
            free = []
        }
    }

    private func store(_ answer: ByteView) -> Int32 {
        guard answer.count > 0 else { return -1 }
        parkedBytes += answer.count
        if let index = free.popLast() {
            parked[Int(index)] = answer.bytes
            return index
        }
        parked.append(answer.bytes)
        return Int32(truncatingIfNeeded: parked.count - 1)
    }

    private func grow() { resize(capacity * 2) }

    /// Gives memory back after a long pipeline.
    func trim() {
        if isEmpty, capacity > 256 { resize(16) }
    }

    private func resize(_ newCapacity: Int) {
        let fresh = UnsafeMutablePointer<Entry>.allocate(capacity: newCapacity)
        fresh.initialize(repeating: Entry(), count: newCapacity)
        var token = head
        while token < tail {
            fresh[Int(token & UInt64(newCapacity - 1))] = self[token]
            token &+= 1
        }
        entries.deallocate()
        entries = fresh
        capacity = newCapacity
    }
}

/// Up to 24 bytes of a command's first argument: enough to recognise a key in the slow log, cheap enough for every
/// command.
struct ArgumentPrefix {
    private var low: UInt64 = 0, middle: UInt64 = 0, high: UInt64 = 0
    /// The length of the whole argument.
    private(set) var length: UInt32 = 0
    /// Words of the command, its name included.
    private(set) var words: UInt32 = 0

    init() {}

    @inline(__always) init(_ view: ByteView, words: Int) {
        self.words = UInt32(truncatingIfNeeded: words)
        length = UInt32(truncatingIfNeeded: view.count)
        guard view.count > 0 else { return }
        withUnsafeMutableBytes(of: &self) { room in
            room.copyMemory(from: ByteView(rebasing: view.prefix(24)))
        }
    }

    var bytes: Bytes { withUnsafeBytes(of: self) { Array($0.prefix(Int(min(length, 24)))) } }
}
