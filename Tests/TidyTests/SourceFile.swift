import Foundation

/// One file of the repository as the rules see it.
struct SourceFile {
    /// Relative to the repository's root.
    let path: String
    let lines: [String]
    /// The lines with comments and string literals blanked out, so that words inside them break no rule.
    let code: [String]

    var isSwift: Bool { path.hasSuffix(".swift") }
    var folder: String { String(path[..<(path.lastIndex(of: "/") ?? path.startIndex)]) }
    /// `Net` for `Shared/Net/EventLoop.swift`, `RespGateway` for `Services/RespGateway/Wire/Parser.swift`.
    var module: String { path.split(separator: "/").dropFirst().first.map(String.init) ?? "" }
    var isProduct: Bool { path.hasPrefix("Shared/") || path.hasPrefix("Services/") }

    /// Whether line `index` (or the comment line above it) carries `// tidy:allow <rule>: reason`.
    func allows(_ rule: String, at index: Int) -> Bool {
        lines[max(0, index - 1)...index].contains { $0.contains("tidy:allow \(rule): ") }
    }
}

/// The repository on disk.
enum Repository {
    static let root = URL(fileURLWithPath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

    /// Every text file that people write: not the build folders, not generated code.
    static let files: [SourceFile] = {
        let kinds = ["swift", "c", "h", "proto", "py", "md", "yaml", "yml", ""]
        var found: [SourceFile] = []
        guard let walk = FileManager.default.enumerator(atPath: root.path) else { return [] }
        while let path = walk.nextObject() as? String {
            let name = path.split(separator: "/").last.map(String.init) ?? path
            if name.hasPrefix("."), name != ".ci" {
                walk.skipDescendants()
                continue
            }
            if path == "Proto/Generated" || path == "shared" || name == "__pycache__" {
                walk.skipDescendants()
                continue
            }
            guard kinds.contains(URL(fileURLWithPath: name).pathExtension),
                let text = try? String(contentsOf: root.appendingPathComponent(path), encoding: .utf8)
            else { continue }
            let lines = text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
            found.append(SourceFile(path: path, lines: lines, code: name.hasSuffix(".swift") ? blank(lines) : lines))
        }
        return found.sorted { $0.path < $1.path }
    }()

    static var swift: [SourceFile] { files.filter(\.isSwift) }
    static var product: [SourceFile] { swift.filter(\.isProduct) }

    static func exists(_ path: String) -> Bool {
        FileManager.default.fileExists(atPath: root.appendingPathComponent(path).path)
    }

    /// Replaces comments and string literals by spaces; interpolations inside literals go with them.
    static func blank(_ lines: [String]) -> [String] {
        var inBlockComment = false
        var inMultilineString = false
        return lines.map { line in
            var output: [Character] = []
            let input = Array(line)
            var index = 0
            var inString = false
            func next(_ text: String) -> Bool {
                let wanted = Array(text)
                return index + wanted.count <= input.count && Array(input[index..<index + wanted.count]) == wanted
            }
            while index < input.count {
                if inBlockComment {
                    if next("*/") {
                        inBlockComment = false
                        index += 1
                    }
                } else if inMultilineString {
                    if next("\"\"\"") {
                        inMultilineString = false
                        index += 2
                    }
                } else if inString {
                    if input[index] == "\\" {
                        index += 1
                    } else if input[index] == "\"" {
                        inString = false
                    }
                } else if next("//") {
                    break
                } else if next("/*") {
                    inBlockComment = true
                } else if next("\"\"\"") {
                    inMultilineString = true
                    index += 2
                } else if input[index] == "\"" {
                    inString = true
                } else {
                    output.append(input[index])
                    index += 1
                    continue
                }
                output.append(" ")
                index += 1
            }
            return String(output)
        }
    }
}

/// Where a rule is broken, as `path:line: why`.
struct Violations: CustomStringConvertible {
    private(set) var found: [String] = []
    var isEmpty: Bool { found.isEmpty }
    var description: String { found.joined(separator: "\n") }

    mutating func add(_ file: SourceFile, _ index: Int, _ why: String) {
        found.append("\(file.path):\(index + 1): \(why)")
    }

    mutating func add(_ text: String) { found.append(text) }
}
