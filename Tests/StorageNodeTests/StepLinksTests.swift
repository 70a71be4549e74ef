import Base
import Contracts
import Net
import Testing

@testable import StorageNode

/// How a node reaches other participants of transactions.
struct StepLinksTests {
    private static let step = TransactionStep(.resolve, id: 7, participants: [0, 9000])

    @Test("what is sent is answered once: by the leader, and with nothing when there is no way or it is closed")
    func answers() throws {
        try Stage.withDirectory { directory in
            try Stage.run(directory, shards: 2) { stage in
                let links = StepLinks(loop: stage.loop, tls: nil, session: 3)
                var answers: [Bytes?] = []
                var isInside = true
                links.send(Self.step, to: 9000) { answer in
                    #expect(!isInside && answer == nil, "without a map there is no way")
                    answers.append(answer)
                }
                guard let map = stage.node.adopted?.map else { return stage.finish() }
                links.adopt(map)
                for slot in [0, 9000] as [UInt32] { links.send(Self.step, to: slot) { answers.append($0) } }
                isInside = false
                stage.poll {
                    guard answers.count == 3 else { return false }
                    links.close()
                    links.send(Self.step, to: 0) { answer in
                        #expect(answer == nil && answers.count == 3)
                        stage.finish()
                    }
                    return true
                }
            }
        }
    }

    @Test("what is under way when the links close is answered with nothing")
    func closing() throws {
        try Stage.withDirectory { directory in
            try Stage.run(directory) { stage in
                let links = StepLinks(loop: stage.loop, tls: nil, session: 3)
                if let map = stage.node.adopted?.map { links.adopt(map) }
                var answers: [Bytes?] = []
                for _ in 0...StepLinks.limit { links.send(Self.step, to: 0) { answers.append($0) } }
                links.close()
                stage.poll {
                    guard answers.count == StepLinks.limit + 1 else { return false }
                    #expect(answers.allSatisfy { $0 == nil })
                    stage.finish()
                    return true
                }
            }
        }
    }
}
