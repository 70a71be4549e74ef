import Foundation
import Testing

/// Rules about the tree itself.
@Suite("Repository")
struct RepositoryTests {
    @Test("no test folder is empty")
    func testFolders() throws {
        let tests = Repository.root.appendingPathComponent("Tests")
        let folders = try FileManager.default.contentsOfDirectory(atPath: tests.path).filter { !$0.hasPrefix(".") }
        #expect(!folders.isEmpty)
        for folder in folders {
            let inside = Repository.files.filter { $0.path.hasPrefix("Tests/\(folder)/") }
            if folder.hasSuffix("Tests") {
                let hasTests = inside.contains { $0.code.contains { $0.contains("@Test") } }
                #expect(hasTests, "Tests/\(folder) has no test")
            } else {
                let everything = FileManager.default.enumerator(atPath: tests.appendingPathComponent(folder).path)
                #expect(everything?.nextObject() != nil, "Tests/\(folder) is empty")
            }
        }
    }

    @Test("the scripts are there, executable, and say what runs them")
    func scripts() throws {
        let folder = Repository.root.appendingPathComponent("scripts")
        let names = try FileManager.default.contentsOfDirectory(atPath: folder.path)
        for name in ["setup", "build", "up", "test", "lint", "format", "generate", "bench", "simulate"] {
            #expect(names.contains(name), "scripts/\(name) is missing")
        }
        for name in names {
            let path = folder.appendingPathComponent(name).path
            var isDirectory: ObjCBool = false
            guard FileManager.default.fileExists(atPath: path, isDirectory: &isDirectory), !isDirectory.boolValue else {
                continue
            }
            guard !name.contains(".") else { continue }
            let text = try String(contentsOfFile: path, encoding: .utf8)
            #expect(text.hasPrefix("#!/usr/bin/env "), "scripts/\(name) needs an interpreter line")
            #expect(FileManager.default.isExecutableFile(atPath: path), "scripts/\(name) is not executable")
        }
    }

    @Test("relative links of the documentation lead somewhere")
    func links() throws {
        let link = try Regex(#"\]\(([^)#\s]+)(#[^)]*)?\)"#, as: (Substring, Substring, Substring?).self)
        for file in Repository.files where file.path.hasSuffix(".md") {
            for (index, line) in file.lines.enumerated() {
                for match in line.matches(of: link) where !match.1.contains("://") && !match.1.hasPrefix("mailto:") {
                    let target = file.folder.isEmpty ? String(match.1) : "\(file.folder)/\(match.1)"
                    #expect(Repository.exists(target), "\(file.path):\(index + 1): \(match.1) is not there")
                }
            }
        }
    }

    @Test("generated code is fresh", .enabled(if: Repository.exists("scripts/generate")))
    func generated() throws {
        let process = Process()
        process.executableURL = Repository.root.appendingPathComponent("scripts/generate")
        process.arguments = ["--check"]
        let pipe = Pipe()
        process.standardOutput = pipe
        process.standardError = pipe
        try process.run()
        let output = pipe.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        #expect(process.terminationStatus == 0, "\(String(decoding: output, as: UTF8.self))")
    }
}
