import Base
import Glibc

/// Small files as a whole. What must be durable or private is written through `Disk`; these are conveniences beside it.
enum SmallFile {
    static let limit = 4 << 20

    /// The content, or nil when it cannot be read or is larger than the limit. Works for /proc, whose files have no
    /// size.
    static func read(_ path: String) -> Bytes? {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        var content: Bytes = []
        var chunk = Bytes(repeating: 0, count: 16 << 10)
        while true {
            let count = Glibc.read(descriptor, &chunk, chunk.count)
            if count < 0, errno == EINTR { continue }
            guard count >= 0, content.count + count <= limit else { return nil }
            if count == 0 { return content }
            content.append(contentsOf: chunk[..<count])
        }
    }

    static func text(_ path: String) -> String? { read(path).map { String(decoding: $0, as: UTF8.self) } }

    /// Writes a file readable by its owner only, durably, replacing what is there in one step.
    static func replace(_ path: String, _ text: String, on disk: any Disk) throws {
        try replace(path, Bytes(text.utf8), on: disk)
    }

    static func replace(_ path: String, _ bytes: Bytes, on disk: any Disk) throws {
        var failure: SystemError?
        bytes.withUnsafeBytes { view in
            do throws(SystemError) { try disk.replace(path, with: view) } catch { failure = error }
        }
        if let failure { throw failure }
        // `Disk` makes private files already; a file from elsewhere is closed here.
        guard chmod(path, 0o600) == 0 else { throw SystemError("chmod \(path)") }
    }

    /// The last `count` lines of a log.
    static func lastLines(_ path: String, _ count: Int) -> [String] {
        guard let text = text(path) else { return [] }
        return text.split(separator: "\n").suffix(count).map(String.init)
    }
}
