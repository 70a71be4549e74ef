import Base
import DataModel
import Glibc

/// The time zones that the system has: the files below its zone directory.
package enum ZoneFiles {
    private static let root = "/usr/share/zoneinfo"
    /// Zones are three levels deep; a loop of links is not followed for ever.
    private static let depth = 4

    /// Names such as `Europe/Berlin`; without zone files only UTC and offsets are known.
    package static func names() -> [String] {
        var names: [String] = []
        collect("", depth, &names)
        return names.sorted()
    }

    /// Names by what they are in small letters.
    private static let spellings = Dictionary(names().map { (folded($0), $0) }) { first, _ in first }

    private static func folded(_ name: String) -> Bytes {
        name.utf8.map { (0x41...0x5a).contains($0) ? $0 | 0x20 : $0 }
    }

    /// The rules of a zone of that name, in small letters or capitals.
    package static func rules(_ name: String) -> ZoneRules? {
        guard !name.contains("..") else { return nil }
        if let rules = read(name) { return rules }
        guard let spelled = spellings[folded(name)], spelled != name else { return nil }
        return read(spelled)
    }

    private static func read(_ name: String) -> ZoneRules? {
        guard let bytes = try? PosixDisk().read("\(root)/\(name)", limit: 1 << 20) else { return nil }
        return bytes.withUnsafeBytes { ZoneRules(name: name, tzif: $0) }
    }

    private static func collect(_ folder: String, _ depth: Int, _ names: inout [String]) {
        guard depth > 0, let directory = opendir(folder.isEmpty ? root : "\(root)/\(folder)") else { return }
        defer { closedir(directory) }
        while let entry = readdir(directory) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) { pointer in
                pointer.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            // `posix` and `right` hold the same zones again; other names of small letters are no zones.
            guard let first = name.utf8.first, (0x41...0x5a).contains(first), !name.contains(".") else { continue }
            let path = folder.isEmpty ? name : "\(folder)/\(name)"
            var status = stat()
            guard stat("\(root)/\(path)", &status) == 0 else { continue }
            switch status.st_mode & S_IFMT {
            case S_IFDIR: collect(path, depth - 1, &names)
            case S_IFREG: names.append(path)
            case _: break
            }
        }
    }
}
