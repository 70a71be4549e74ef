import Base
import Net

extension Command {
    /// For container health checks: the image needs no HTTP client then.
    static let health = Command(
        "health", operands: "ADDRESS", count: 1...1, summary: "Asks one admin port whether its process is ready."
    ) { arguments in
        _ = try SocketAddress(parsing: arguments.operands[0])
        let (status, body) = try AdminClient.ask(arguments.operands[0], "/readyz")
        let text = String(decoding: body.prefix { $0 != 0x0A }, as: UTF8.self)
        Console().out(status == 0 ? "no answer" : text)
        return status == 200 ? 0 : 1
    }
}
