import Base
import CNghttp2

/// An ordered list of header fields, kept in one flat run of bytes: a request costs two allocations, not two per
/// field.
///
/// Names are lower case, as HTTP/2 demands; nothing here checks that, because names come from literals of this
/// module, from `GRPCMetadata` (which does check) or from nghttp2 (which checked).
package struct HTTP2Headers: Sendable {
    private struct Field {
        var nameEnd: Int
        var valueEnd: Int
    }

    private var storage: Bytes = []
    private var fields: [Field] = []

    package init() {}

    package var count: Int { fields.count }

    /// Size by the rule of RFC 9113, section 6.5.2: name, value and 32 bytes for each field.
    package var listSize: Int { storage.count + 32 * fields.count }

    package mutating func removeAll() {
        storage.removeAll(keepingCapacity: true)
        fields.removeAll(keepingCapacity: true)
    }

    package mutating func append(name: ByteView, value: ByteView) {
        storage.append(contentsOf: name)
        let nameEnd = storage.count
        storage.append(contentsOf: value)
        fields.append(Field(nameEnd: nameEnd, valueEnd: storage.count))
    }

    package mutating func append(_ name: String, _ value: String) {
        storage.append(contentsOf: name.utf8)
        let nameEnd = storage.count
        storage.append(contentsOf: value.utf8)
        fields.append(Field(nameEnd: nameEnd, valueEnd: storage.count))
    }

    package mutating func append(_ name: String, bytes value: Bytes) {
        storage.append(contentsOf: name.utf8)
        let nameEnd = storage.count
        storage.append(contentsOf: value)
        fields.append(Field(nameEnd: nameEnd, valueEnd: storage.count))
    }

    /// Calls `body` for each field in order; the views are valid during the call.
    package func forEach(_ body: (_ name: ByteView, _ value: ByteView) -> Void) {
        storage.withUnsafeBytes { all in
            var start = 0
            for field in fields {
                body(
                    ByteView(rebasing: all[start..<field.nameEnd]),
                    ByteView(rebasing: all[field.nameEnd..<field.valueEnd]))
                start = field.valueEnd
            }
        }
    }

    /// The value of the first field called `name` (lower case).
    package func value(of name: StaticString) -> Bytes? {
        let wanted = ByteView(start: name.utf8Start, count: name.utf8CodeUnitCount)
        var found: Bytes?
        forEach { candidate, value in
            if found == nil, candidate.equals(wanted) { found = value.bytes }
        }
        return found
    }

    /// The value of the first field called `name`, as text; bytes that are not UTF-8 are replaced.
    package func text(of name: StaticString) -> String? {
        value(of: name).map { String(decoding: $0, as: UTF8.self) }
    }

    /// Calls `body` with the fields as nghttp2 takes them. nghttp2 copies names and values during a submit, so the
    /// pointers need to live no longer than the call.
    func withNameValues<Result>(_ body: (UnsafePointer<nghttp2_nv>?, Int) -> Result) -> Result {
        var copy = storage
        return copy.withUnsafeMutableBufferPointer { all in
            guard let base = all.baseAddress else { return body(nil, 0) }
            return withUnsafeTemporaryAllocation(of: nghttp2_nv.self, capacity: fields.count) { list in
                var start = 0
                for (index, field) in fields.enumerated() {
                    list.initializeElement(
                        at: index,
                        to: nghttp2_nv(
                            name: base + start, value: base + field.nameEnd, namelen: field.nameEnd - start,
                            valuelen: field.valueEnd - field.nameEnd, flags: UInt8(NGHTTP2_NV_FLAG_NONE.rawValue)))
                    start = field.valueEnd
                }
                return body(UnsafePointer(list.baseAddress), fields.count)
            }
        }
    }
}
