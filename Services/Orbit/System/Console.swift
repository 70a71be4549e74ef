import Glibc

/// What a person reads: results on standard output, progress and errors on standard error; colour only on a terminal.
struct Console: Sendable {
    /// Colour on standard output.
    let hasColor: Bool
    /// Whether progress is shown at all (not with `--json`).
    let isQuiet: Bool

    init(isQuiet: Bool = false) {
        self.isQuiet = isQuiet
        hasColor = isatty(1) == 1 && getenv("NO_COLOR") == nil
    }

    enum Style: String { case bold = "1", dim = "2", red = "31", green = "32", yellow = "33" }

    func styled(_ text: String, _ style: Style) -> String {
        hasColor ? "\u{1b}[\(style.rawValue)m\(text)\u{1b}[0m" : text
    }

    /// A line of the result.
    func out(_ line: String = "") { Self.write(line + "\n", to: 1) }

    /// A line about what is going on; dropped when quiet.
    func progress(_ line: String = "") {
        if !isQuiet { Self.write(line + "\n", to: 1) }
    }

    /// An error, with what to do about it.
    static func error(_ message: String) { write("orbit: \(message)\n", to: 2) }

    /// A step that is done: `  ✓ storage-node-1      ready in 0.2 s`.
    func done(_ what: String, _ how: String) { step(styled("✓", .green), what, how) }

    func warn(_ what: String, _ how: String) { step(styled("!", .yellow), what, how) }

    func failed(_ what: String, _ how: String) { step(styled("✗", .red), what, how) }

    private func step(_ mark: String, _ what: String, _ how: String) {
        let padding = String(repeating: " ", count: max(1, 24 - what.count))
        progress("  \(mark) \(what)\(padding)\(styled(how, .dim))")
    }

    /// Columns padded to their widest cell, two spaces apart.
    static func table(_ rows: [[String]]) -> [String] {
        let columns = rows.map(\.count).max() ?? 0
        let widths = (0..<columns).map { column in rows.map { $0.count > column ? $0[column].count : 0 }.max() ?? 0 }
        return rows.map { row in
            var line = ""
            for (column, cell) in row.enumerated() {
                line += cell
                if column < row.count - 1 {
                    line += String(repeating: " ", count: widths[column] - cell.count + 2)
                }
            }
            return line
        }
    }

    private static func write(_ text: String, to descriptor: Int32) {
        var rest = Array(text.utf8)[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
            guard count > 0 || errno == EINTR else { return }
            rest = rest.dropFirst(max(count, 0))
        }
    }
}

/// A path as a shell reads it back: itself, or in quotes.
func shellWord(_ path: String) -> String {
    let isPlain = path.utf8.allSatisfy { byte in
        switch byte {
        case 48...57, 65...90, 97...122, 43, 45, 46, 47, 64, 95: true
        case _: false
        }
    }
    return isPlain ? path : "'" + path.replacing("'", with: "'\\''") + "'"
}

/// A length of time for people: `40 ms`, `1.4 s`.
func seconds(_ milliseconds: Int) -> String {
    if milliseconds < 1000 { return "\(milliseconds) ms" }
    let tenths = (milliseconds + 50) / 100
    return "\(tenths / 10).\(tenths % 10) s"
}
