import Foundation

/// A file of Tests/SQL: blocks with an empty line between, as Tests/Clients/sqllogic.py reads them over the wire.
struct StatementFile: Sendable, CustomStringConvertible {
    let name: String
    let blocks: [Block]
    /// It says of itself that it needs a cluster: `# over the wire` begins one of its lines.
    let needsCluster: Bool

    struct Block: Sendable {
        /// Of its first line, from 1.
        let line: Int
        /// `query`, `query unordered`, `statement ok` or `statement error STATE message`.
        let kind: String
        let statement: String
        let rows: [String]
    }

    var description: String { name }

    static let all: [StatementFile] = {
        let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .appendingPathComponent("SQL")
        let names = (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
        return names.filter { $0.hasSuffix(".slt") }.sorted().compactMap { name in
            guard let text = try? String(contentsOf: folder.appendingPathComponent(name), encoding: .utf8) else {
                return nil
            }
            return StatementFile(name, text)
        }
    }()

    init(_ name: String, _ text: String) {
        self.name = name
        var blocks: [Block] = [], kept: [Substring] = [], start = 0, needsCluster = false
        let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
        for (index, line) in (lines + [""]).enumerated() {
            if line.hasPrefix("#") {
                needsCluster = needsCluster || line.hasPrefix("# over the wire")
            } else if !line.isEmpty {
                if kept.isEmpty { start = index + 1 }
                kept.append(line)
            } else if !kept.isEmpty {
                let end = kept.firstIndex(of: "----") ?? kept.endIndex
                blocks.append(
                    Block(
                        line: start, kind: String(kept[0]), statement: kept[1..<end].joined(separator: "\n"),
                        rows: kept[min(end + 1, kept.endIndex)...].map(String.init)))
                kept = []
            }
        }
        (self.blocks, self.needsCluster) = (blocks, needsCluster)
    }

    /// What a database answers otherwise than the file says.
    func differences(_ database: MemoryDatabase) -> [String] {
        var found: [String] = []
        for block in blocks {
            let given = database.run(block.statement)
            let isRight: Bool
            switch given {
            case .rows(let rows):
                let texts = rows.map { $0.isEmpty ? "(empty)" : $0 }.flatMap { $0.components(separatedBy: "\n") }
                switch block.kind {
                case "query": isRight = texts == block.rows
                case "query unordered": isRight = texts.sorted() == block.rows.sorted()
                case "statement ok": isRight = true
                default: isRight = false
                }
            case .done: isRight = block.kind == "statement ok"
            case .failed(let error):
                isRight = block.kind == "statement error \(error.state.rawValue) \(error.message)"
            }
            if !isRight {
                let wanted = block.kind.hasPrefix("query") ? "\(block.rows)" : block.kind
                found.append("\(name):\(block.line): \(block.statement)\n  wanted \(wanted)\n  given  \(given)")
            }
        }
        return found
    }
}
