import Foundation
import Testing

/// The rules of style that a program can check.
@Suite("Style")
struct StyleTests {
    static let fileLimit = 600
    static let functionLimit = 70
    static let lineLimit = 120

    @Test("files have at most 600 lines, lines at most 120 characters")
    func sizes() {
        #expect(Repository.files.count > 30, "the repository was not found")
        var violations = Violations()
        for file in Repository.files where !file.path.hasSuffix(".md") {
            if file.lines.count > Self.fileLimit + 1 {
                violations.add(file, Self.fileLimit, "\(file.lines.count) lines")
            }
            for (index, line) in file.lines.enumerated() where line.count > Self.lineLimit {
                if line.contains("https://") || file.allows("line", at: index) { continue }
                violations.add(file, index, "\(line.count) characters")
            }
        }
        #expect(violations.isEmpty, "\(violations)")
    }

    @Test("functions have at most 70 lines")
    func functions() throws {
        let start = try Regex(
            #"^\s*(@\w+(\([^)]*\))?\s+)*((package|public|private|fileprivate|static|final|mutating|borrowing"#
                + #"|consuming|nonisolated|override|class)\s+)*(func\s|init[?(<])"#
        )
        var violations = Violations()
        for file in Repository.swift {
            for (index, line) in file.code.enumerated()
            where (line.contains("func ") || line.contains("init")) && line.contains(start) {
                if line.contains("{"), line.hasSuffix("}") { continue }  // All of it is here.
                let indent = line.prefix { $0 == " " }.count
                let closing = String(repeating: " ", count: indent) + "}"
                guard let end = file.code[index...].firstIndex(where: { $0.hasPrefix(closing) }) else { continue }
                // A protocol requirement has no body: the next closing brace at its depth belongs to somebody else.
                let isRequirement = !file.code[index...end].prefix(8).contains { $0.contains("{") }
                if !isRequirement, end - index > Self.functionLimit + 1, !file.allows("function", at: index) {
                    violations.add(file, index, "\(end - index - 1) lines in one function")
                }
            }
        }
        #expect(violations.isEmpty, "\(violations)")
    }

    struct Ban: Sendable, CustomTestStringConvertible {
        let rule: String
        let pattern: String
        /// What a line must hold for the pattern to be tried: regular expressions are slow in debug builds.
        let hint: String
        let why: String
        var scope: @Sendable (SourceFile) -> Bool = { $0.isProduct }
        var testDescription: String { rule }
    }

    static let bans: [Ban] = [
        Ban(rule: "try!", pattern: #"\btry!"#, hint: "!", why: "try! traps"),
        Ban(rule: "as!", pattern: #"\bas!"#, hint: "!", why: "as! traps"),
        Ban(rule: "unwrap", pattern: #"[A-Za-z0-9_)\]]!(?![=A-Za-z])"#, hint: "!", why: "a forced unwrap traps"),
        Ban(
            rule: "foundation", pattern: #"\bimport (Foundation\w*|Dispatch)\b"#, hint: "import",
            why: "processes avoid Foundation"),
        Ban(rule: "date", pattern: #"\bDate\(\)"#, hint: "Date", why: "clocks are injected"),
        Ban(
            rule: "unchecked", pattern: #"-Ounchecked|-enforce-exclusivity=unchecked"#, hint: "unchecked",
            why: "checks stay on"
        ) { _ in
            true
        },
        Ban(
            rule: "sleep", pattern: #"\b(usleep|sleep|nanosleep)\(|Thread\.sleep|Task\.sleep"#, hint: "sleep",
            why: "wait for an event, not for time"
        ) { _ in true },
        Ban(
            rule: "print", pattern: #"(^|[^.\w])print\("#, hint: "print",
            why: "services log; `orbit` has its own output"
        ) {
            $0.path.hasPrefix("Shared/") && !$0.path.hasPrefix("Shared/TestKit")
        },
    ]

    @Test("banned constructs", arguments: bans)
    func banned(_ ban: Ban) throws {
        let pattern = try Regex(ban.pattern)
        var violations = Violations()
        for file in Repository.swift where ban.scope(file) && !file.path.hasPrefix("Tests/TidyTests") {
            for (index, line) in file.code.enumerated()
            where line.contains(ban.hint) && line.contains(pattern) && !file.allows(ban.rule, at: index) {
                violations.add(file, index, ban.why)
            }
        }
        #expect(violations.isEmpty, "\(violations)")
    }

    @Test("a trap says why it cannot be reached from outside")
    func traps() throws {
        let trap = try Regex(#"\b(fatalError|preconditionFailure)\("#)
        var violations = Violations()
        for file in Repository.product {
            for (index, line) in file.code.enumerated() where line.contains(trap) {
                let around = file.lines[max(0, index - 2)...index]
                let hasMessage = !file.lines[index].contains("()")
                if !hasMessage && !around.contains(where: { $0.contains("//") }) {
                    violations.add(file, index, "a trap without a reason")
                }
            }
        }
        #expect(violations.isEmpty, "\(violations)")
    }

    @Test("no name ends in Manager, Helper, Util or a version")
    func names() throws {
        let bad = try Regex(
            #"\b(class|struct|enum|protocol|actor|typealias)\s+\w*(Manager|Helper|Helpers|Util|Utils|Utilities|V2)\b"#)
        let badFile = try Regex(#"(Manager|Helper|Helpers|Util|Utils|Utilities|V2)\.swift$"#)
        var violations = Violations()
        for file in Repository.swift {
            if file.path.contains(badFile) { violations.add(file, 0, "name it after what it is") }
            for (index, line) in file.code.enumerated() where line.contains(bad) {
                violations.add(file, index, "name it after what it is")
            }
        }
        #expect(violations.isEmpty, "\(violations)")
    }

    /// Overloads, and witnesses of a documented requirement, inherit its comment: a name documented once is documented.
    @Test("every package declaration is documented")
    func documentation() throws {
        let declaration = try Regex(
            #"^\s*(@[\w]+(\([^)]*\))?\s+)*package\s+((static|final|mutating|borrowing|consuming|nonisolated|class"#
                + #"|indirect|override)(\(\w+\))?\s+)*(func|struct|class|protocol|enum|actor)\s+([A-Za-z_]\w*)"#
        )
        let requirement = try Regex(
            #"^\s*((static|mutating|borrowing|consuming|nonisolated)\s+)*(func)\s+([A-Za-z_]\w*)"#)
        var undocumented: [(file: SourceFile, line: Int, name: String)] = []
        var documented: Set<String> = ["encode", "description", "hash", "main"]
        for file in Repository.product {
            for (index, line) in file.code.enumerated() {
                // Regular expressions are slow in debug builds: most lines need none.
                guard line.contains("package ") || line.contains("func ") else { continue }
                let isPackage = line.contains(declaration)
                guard isPackage || line.contains(requirement) else { continue }
                guard
                    let name = try (isPackage ? declaration : requirement).firstMatch(in: line)?.output.last?.substring
                else { continue }
                if hasComment(file, above: index) {
                    documented.insert(String(name))
                } else if isPackage {
                    undocumented.append((file, index, String(name)))
                }
            }
        }
        var violations = Violations()
        for item in undocumented where !documented.contains(item.name) {
            violations.add(item.file, item.line, "\(item.name) has no /// comment")
        }
        #expect(violations.isEmpty, "\(violations)")
    }

    /// Skips attributes between the comment and its declaration.
    private func hasComment(_ file: SourceFile, above index: Int) -> Bool {
        var line = index - 1
        while line >= 0 {
            let text = file.lines[line].drop { $0 == " " }
            if text.hasPrefix("///") { return true }
            guard text.hasPrefix("@") else { return false }
            line -= 1
        }
        return false
    }
}
