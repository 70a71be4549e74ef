import Testing

@testable import Engine

/// The files of Tests/SQL without a cluster: every change of the engine is checked in a second.
@Suite("Statements")
struct StatementsTests {
    static let files = StatementFile.all.filter { !$0.needsCluster }

    @Test("the files are found")
    func found() { #expect(Self.files.count >= 3) }

    @Test("the files of Tests/SQL are answered as PostgreSQL does", arguments: files)
    func answers(file: StatementFile) {
        let differences = file.differences(MemoryDatabase())
        #expect(differences.isEmpty, "\(differences.joined(separator: "\n"))")
    }

    @Test("… and so do programs for one record")
    func points() {
        var points = 0
        for file in Self.files {
            let database = MemoryDatabase(.init(prefersPoints: true))
            let differences = file.differences(database)
            #expect(differences.isEmpty, "\(differences.joined(separator: "\n"))")
            points += database.points
        }
        #expect(points > 10)
    }

    @Test("… and so do shards that carry out scans", arguments: files)
    func fragments(file: StatementFile) {
        let differences = file.differences(MemoryDatabase(.init(page: 3, isScattered: true, prefersFragments: true)))
        #expect(differences.isEmpty, "\(differences.joined(separator: "\n"))")
    }

    @Test("… in small pages that come late and in any order, and giving way after every batch", arguments: files)
    func lateAnswers(file: StatementFile) {
        let database = MemoryDatabase(.init(page: 2, isLate: true, isScattered: true))
        database.settings.batchesPerSlice = 1
        let differences = file.differences(database)
        #expect(differences.isEmpty, "\(differences.joined(separator: "\n"))")
    }
}
