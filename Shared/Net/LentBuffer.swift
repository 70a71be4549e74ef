import Base

/// Memory for one busy buffer; the loop keeps a few and hands out the one used last, which is still in the cache.
@usableFromInline final class SpareBuffer {
    static let size = 16 << 10

    var buffer = ByteBuffer(capacity: SpareBuffer.size)
}

/// A buffer that borrows its memory from the loop while it holds anything.
///
/// Idle it is 64 bytes. So the memory of ten thousand connections is that of the few that are busy in the same tick,
/// and a burst over all of them leaves no heap full of holes.
@usableFromInline struct LentBuffer: ~Copyable {
    @usableFromInline var buffer = ByteBuffer(capacity: 64)
    @usableFromInline var spare: SpareBuffer?

    /// Call before writing.
    mutating func borrow(from loop: EventLoop) {
        guard spare == nil else { return }
        let taken = loop.takeSpare()
        swap(&buffer, &taken.buffer)
        spare = taken
    }

    /// Call when everything was sent; does nothing while bytes wait.
    mutating func giveBack(to loop: EventLoop) {
        guard buffer.isEmpty, let spare else { return }
        swap(&buffer, &spare.buffer)
        self.spare = nil
        loop.returnSpare(spare)
    }
}
