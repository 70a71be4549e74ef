import Base

/// Memory that is handed out in order and freed as a whole; what was handed out never moves.
struct Arena: ~Copyable {
    /// A chunk is an eighth of what is there, within these bounds: what is given up at its end stays a small part.
    private static let smallest = 256 << 10, largest = 1 << 20
    private var chunks: [UnsafeMutableRawPointer] = []
    private var position = 0
    private var end = 0
    private(set) var byteCount = 0
    /// A valid address for views of no bytes.
    let anchor = UnsafeMutableRawPointer.allocate(byteCount: 1, alignment: 1)

    deinit {
        for chunk in chunks { chunk.deallocate() }
        anchor.deallocate()
    }

    /// A copy of `bytes` that lives as long as the arena.
    mutating func copy(_ bytes: ByteView) -> ByteView {
        guard let source = bytes.baseAddress, bytes.count > 0 else { return ByteView(start: anchor, count: 0) }
        let target = room(bytes.count)
        target.copyMemory(from: source, byteCount: bytes.count)
        return ByteView(start: target, count: bytes.count)
    }

    /// Room for that many bytes, at least one, aligned to nothing.
    @inline(__always)
    mutating func room(_ count: Int) -> UnsafeMutableRawPointer {
        if end - position < count { grow(count) }
        let target = chunks[chunks.count - 1] + position
        position += count
        return target
    }

    private mutating func grow(_ count: Int) {
        // The rest of the old chunk is given up: less than one list of effects per chunk.
        let size = max(min(max(byteCount / 8, Self.smallest), Self.largest), count)
        chunks.append(.allocate(byteCount: size, alignment: 16))
        position = 0
        end = size
        byteCount += size
    }
}
