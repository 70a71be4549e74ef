import Base
import Contracts
import DataModel

/// A part of a statement at work over the rows of a shard. What it makes of them is the node's business; here it is
/// given the rows of one page.
package protocol RowFragment: AnyObject {
    /// Nothing more is to be given: enough has come out, or been done, or it has failed.
    var isFull: Bool { get }
    /// Takes the rows of a bucket from a key on that are known without being read, and says where they end; nil: they
    /// have to be read.
    func takeKnown(_ bucket: Int, from key: ByteView) -> RowReach?
    /// Rows of a bucket come now, from a key on; `isAll`: all of the table that the store has, and nothing else.
    func begin(_ bucket: Int, from key: ByteView, isAll: Bool)
    /// The next row; `isLasting`: time alone does not remove it. False: it was not taken, and is to be read again.
    func add(_ key: ByteView, _ record: ByteView, isLasting: Bool) -> Bool
    /// The rows have come up to `next`, which was not taken (nil: those of the bucket are over). Answers where to go
    /// on: at `next` or before, behind the last row.
    func end(_ next: Bytes?) -> RowReach
    func finish() -> RowFragmentOutcome
}

/// How far rows of a bucket were taken: all before a key, or all.
package enum RowReach {
    case key(Bytes)
    case bucket
}

/// What a fragment has made of the rows, or why it has failed, as the caller is told.
package enum RowFragmentOutcome {
    case blocks([Bytes])
    case failed(Bytes)
}

/// What is asked of a fragment.
package struct RowFragmentRequest {
    package let name: ByteView
    package let collection: CollectionID
    /// Of the collection.
    package let version: UInt64
    /// Rows and bytes that may come out, about; 0: any number of rows.
    package let rows: Int
    package let bytes: Int
    /// Of the transaction and of the statement, in microseconds since 1970.
    package let transactionTime: Int64
    package let statementTime: Int64
    package let parameters: ByteView
}

/// The fragments of a node.
package protocol RowFragments: AnyObject {
    /// Nil: it is not known here (any more).
    func begin(_ request: RowFragmentRequest) -> (any RowFragment)?
}
