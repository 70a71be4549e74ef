import Base
import CICU
import DataModel

/// ICU's root collation and its mappings of case: all that Orbit asks of ICU.
///
/// What a key is depends on ICU's version, so none is kept: an index has the texts themselves, in the order of bytes.
enum RootCollation {
    /// From one case to another, by the rules of no language; a letter may become several.
    enum Mapping: Int32, Sendable { case lower = 0, upper = 1, title = 2 }

    /// Made when it is first asked for. ICU lets any number of threads use a collator that nobody changes.
    private nonisolated(unsafe) static let collator = orbit_icu_root()

    /// Appends what stands for a text where texts are put in order: ICU's sort key, a byte 0, which no sort key has,
    /// and the text itself. So keys compare by bytes as texts do by the collation, those that it calls equal by their
    /// own bytes, and the text can be taken out again. `kept` is what is to be taken out, if that is another one.
    static func appendKey(of text: ByteView, keeping kept: ByteView? = nil, to key: inout Bytes) throws(StatementError)
    {
        guard let collator else {
            throw StatementError(.internalError, "could not open collator for locale \"und\"")
        }
        try append(to: &key, room: text.count &* 2 &+ 32) { result, room, needed in
            orbit_icu_key(
                collator, text.baseAddress?.assumingMemoryBound(to: UInt8.self), text.count, result, room, &needed)
        }
        key.append(0)
        key.append(contentsOf: kept ?? text)
    }

    /// What a key was made of.
    static func text(ofKey key: Bytes) -> String {
        guard let end = key.firstIndex(of: 0) else { return "" }
        return String(decoding: key[(end + 1)...], as: UTF8.self)
    }

    static func mapped(_ text: String, _ mapping: Mapping) throws(StatementError) -> String {
        let bytes = Bytes(text.utf8)
        var result = Bytes()
        try append(to: &result, room: bytes.count &+ bytes.count / 2 &+ 16) { result, room, needed in
            bytes.withUnsafeBufferPointer {
                orbit_icu_mapped(mapping.rawValue, $0.baseAddress, $0.count, result, room, &needed)
            }
        }
        return String(decoding: result, as: UTF8.self)
    }

    /// Appends what `write` makes, in as much room as it turns out to need.
    private static func append(
        to bytes: inout Bytes, room: Int,
        _ write: (_ result: UnsafeMutablePointer<UInt8>?, _ room: Int, _ needed: inout Int) -> Int32
    ) throws(StatementError) {
        let start = bytes.count
        var room = room
        // A second time with what it asked for; there is no third.
        for _ in 0..<2 {
            var needed = 0
            bytes.append(contentsOf: repeatElement(0, count: room))
            let outcome = bytes.withUnsafeMutableBufferPointer { all in
                write(UnsafeMutableBufferPointer(rebasing: all[start...]).baseAddress, room, &needed)
            }
            let isWhole = Int(outcome) == orbit_icu_done && needed <= room
            bytes.removeLast(isWhole ? room - needed : room)
            if isWhole { return }
            guard Int(outcome) == orbit_icu_short, needed > room else {
                throw Int(outcome) == orbit_icu_invalid
                    ? StatementError(.characterNotInRepertoire, "invalid byte sequence for encoding \"UTF8\"")
                    : StatementError(.outOfMemory, "out of memory", detail: "A text is too long to be compared.")
            }
            room = needed
        }
        throw StatementError(.internalError, "ICU did not keep to the length that it asked for")
    }
}
