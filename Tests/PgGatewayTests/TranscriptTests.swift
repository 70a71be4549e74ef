import Foundation
import Testing

/// Replays `Tests/Transcripts/pg/*.txt`. `REWRITE=1` accepts what happens now.
@Suite("PostgreSQL transcripts")
struct TranscriptTests {
    static let folder = URL(fileURLWithPath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().appendingPathComponent("Transcripts/pg")

    static let files: [String] = {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
        return names.filter { $0.hasSuffix(".txt") }.sorted()
    }()

    @Test("there are transcripts")
    func notEmpty() { #expect(!Self.files.isEmpty, "no transcript in \(Self.folder.path)") }

    @Test("transcript", arguments: files)
    func replay(_ name: String) throws {
        let url = Self.folder.appendingPathComponent(name)
        let expected = try String(contentsOf: url, encoding: .utf8)
        let actual = Transcript.replay(expected)
        if ProcessInfo.processInfo.environment["REWRITE"] == "1" {
            if actual != expected { try actual.write(to: url, atomically: true, encoding: .utf8) }
            return
        }
        let wanted = expected.components(separatedBy: "\n"), found = actual.components(separatedBy: "\n")
        for index in 0..<max(wanted.count, found.count) {
            let want = index < wanted.count ? wanted[index] : "(end)"
            let have = index < found.count ? found[index] : "(end)"
            guard want == have else {
                Issue.record("\(name):\(index + 1): expected \(want), got \(have) (REWRITE=1 accepts)")
                return
            }
        }
    }
}
