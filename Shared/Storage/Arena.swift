import Base

/// Memory that is handed out in order and freed as a whole; what was handed out never moves.
struct Arena: ~Copyable {
    private static let chunkSize = 256 << 10
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
        if end - position < bytes.count {
            // The rest of the old chunk is given up: at most one list of effects per chunk.
            let size = max(Self.chunkSize, bytes.count)
            chunks.append(.allocate(byteCount: size, alignment: 16))
            position = 0
            end = size
            byteCount += size
        }
        let target = chunks[chunks.count - 1] + position
        target.copyMemory(from: source, byteCount: bytes.count)
        position += bytes.count
        return ByteView(start: target, count: bytes.count)
    }
}
