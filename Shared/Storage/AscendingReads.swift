import Base

/// Reads keys of a store that are asked for in ascending order. Meanwhile nothing may write to them.
///
/// Stepping from one record to the next costs a fifth of looking a key up, as long as the keys asked for lie close
/// together in the store; where they do not, looking up is cheaper than seeking. So now and then it tries to step, and
/// goes on as long as steps find the keys.
package struct AscendingReads: ~Copyable {
    private let store: any Store
    private var iterator: (any StoreIterator)?
    /// Keys to be looked up before stepping is tried, and how many the next time.
    private var lookUps: Int, pause: Int
    /// Keys that steps have found since the last seek.
    private var streak = 0

    /// Records that are stepped over on the way to one key: more cost as much as looking it up.
    private static let stepLimit = 6
    /// So many keys pay for a seek.
    private static let worthASeek = 16
    private static let longestPause = 8192

    /// A flush of few keys makes no iterator.
    package init(_ store: any Store, lookUpsFirst: Int = 64) {
        (self.store, lookUps, pause) = (store, lookUpsFirst, max(lookUpsFirst, 1))
    }

    /// Calls `body` once with the value of `key`, nil when there is none; the view is valid during the call only.
    package mutating func withValue(_ key: ByteView, _ body: (ByteView?) -> Void) throws(StoreError) {
        if let iterator {
            for _ in 0..<Self.stepLimit {
                if try Self.answer(key, at: iterator, body) {
                    streak &+= 1
                    return
                }
                iterator.next()
            }
            if streak >= Self.worthASeek {
                // The keys lay close together up to here: as a rule they do so again.
                (streak, pause) = (0, 1)
                iterator.seek(key)
                _ = try Self.answer(key, at: iterator, body)
                return
            }
            self.iterator = nil
            pause = min(pause &* 2, Self.longestPause)
            lookUps = pause
        } else if lookUps <= 0 {
            let iterator = try store.scan(from: key.bytes, to: [])
            (self.iterator, streak) = (iterator, 0)
            _ = try Self.answer(key, at: iterator, body)
            return
        }
        lookUps -= 1
        try store.withValue(key, body)
    }

    /// True if the iterator is not before the key: then it tells.
    @inline(__always)
    private static func answer(
        _ key: ByteView, at iterator: any StoreIterator, _ body: (ByteView?) -> Void
    ) throws(StoreError) -> Bool {
        guard iterator.isValid else {
            try iterator.check()
            body(nil)
            return true
        }
        let order = compareKeys(iterator.key, key)
        if order < 0 { return false }
        body(order == 0 ? iterator.value : nil)
        return true
    }
}
