import Base
import Glibc

/// A segment's file, open for writing, and what the log needs to know about it.
package final class LogSegment: Sendable {
    let header: LogFormat.SegmentHeader
    let path: String
    let file: any DiskFile

    init(header: LogFormat.SegmentHeader, path: String, file: any DiskFile) {
        self.header = header
        self.path = path
        self.file = file
    }

    var sequence: UInt64 { header.sequence }
    /// Bytes a batch may take at most.
    var capacity: Int { Int(header.size) - LogFormat.segmentHeaderSize }

    package static let suffix = ".log"
    package static let draftSuffix = ".new"

    /// The name of the file of a segment.
    package static func name(_ sequence: UInt64) -> String {
        let digits = String(sequence, radix: 16)
        return "segment-" + String(repeating: "0", count: 16 - digits.count) + digits + suffix
    }

    /// The sequence in a name, or nil when it is not the name of a segment.
    package static func sequence(ofName name: String) -> UInt64? {
        guard name.hasPrefix("segment-"), name.hasSuffix(suffix) else { return nil }
        let digits = name.dropFirst(8).dropLast(suffix.count)
        guard digits.count == 16, let sequence = UInt64(digits, radix: 16), Self.name(sequence) == name else {
            return nil
        }
        return sequence
    }
}

/// Makes the next segment ready for use: full of zeros, durable, then given its name. Any thread may run it, since
/// filling 64 MiB takes longer than a commit may wait.
package struct SegmentPreparation: Sendable {
    let disk: any Disk
    let directory: String
    let header: LogFormat.SegmentHeader

    /// Throws `full` after cleaning up when there is no room, so that it can be tried again.
    func run() throws(LogError) -> LogSegment {
        let path = directory + "/" + LogSegment.name(header.sequence)
        let draft = path + LogSegment.draftSuffix
        do throws(SystemError) {
            if disk.exists(draft) { try disk.remove(draft) }
            let file = try disk.open(draft, create: true)
            do throws(SystemError) {
                try file.allocateZeroed(Int(header.size))
                try write(to: file)
                // Under its own name a segment is complete: recovery need not tell a half-made one from a damaged one.
                try file.sync()
                try disk.rename(draft, to: path)
                try disk.syncDirectory(directory)
            } catch {
                file.close()
                if disk.exists(draft) { try? disk.remove(draft) }
                throw error
            }
            return LogSegment(header: header, path: path, file: file)
        } catch {
            throw LogError.of(error)
        }
    }

    private func write(to file: any DiskFile) throws(SystemError) {
        let bytes = header.encode()
        var failure: SystemError?
        bytes.withUnsafeBytes { view in
            do throws(SystemError) { try file.pwrite(view, at: 0) } catch { failure = error }
        }
        if let failure { throw failure }
    }
}

extension LogError {
    static func of(_ error: SystemError) -> LogError {
        error.code == ENOSPC || error.code == EDQUOT
            ? LogError(.full, error.description) : LogError(.inputOutput, error.description)
    }
}
