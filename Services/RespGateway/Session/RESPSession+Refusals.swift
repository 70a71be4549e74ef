import Base

/// Commands that are not carried out. Inside MULTI a refusal means that EXEC will do nothing.
extension RESPSession {
    /// Whether the user may run the command; otherwise it has been answered.
    func mayUse(_ command: RESPCommand, _ words: Words, _ output: inout ByteBuffer) -> Bool {
        if command.flags.contains(.noAuth) { return true }
        guard let user else {
            refuse(command, "NOAUTH Authentication required.", &output)
            return false
        }
        // Whether a container may be used is decided by its subcommand.
        if case .container = command.body, words.count > 1 { return true }
        guard let denial = user.denial(of: command, words) else { return true }
        refuse(command, "NOPERM " + denial, &output)
        return false
    }

    /// Answers with an error in place of the command (nil: there is no such command).
    func refuse(_ command: RESPCommand?, _ text: String, _ output: inout ByteBuffer) {
        guard command === RESPCommand.execute else {
            transaction?.abort()
            return fail(text, &output)
        }
        forgetTransaction()
        let reason = text.hasPrefix("ERR ") ? String(text.dropFirst(4)) : text
        fail("EXECABORT Transaction discarded because of: " + reason, &output)
    }

    func refuseArity(_ command: RESPCommand, _ output: inout ByteBuffer) {
        refuse(command, "ERR wrong number of arguments for '\(command.name)' command", &output)
    }

    func refuseUnknown(_ words: Words, _ output: inout ByteBuffer) {
        var arguments = ""
        var position = 1
        while position < words.count, arguments.utf8.count < 128 {
            arguments += "'\(Self.printable(words[position], limit: 128 - arguments.utf8.count))' "
            position += 1
        }
        let name = Self.printable(words[0], limit: 128)
        refuse(nil, "ERR unknown command '\(name)', with args beginning with: \(arguments)", &output)
    }

    func refuseSubcommand(of container: RESPCommand, _ words: Words, _ output: inout ByteBuffer) {
        let name = Self.printable(words[1], limit: 128)
        refuse(
            container, "ERR unknown subcommand '\(name)'. Try \(container.name.uppercased()) HELP.", &output)
    }

    private static func printable(_ view: ByteView, limit: Int) -> String {
        String(decoding: view.prefix(max(limit, 0)), as: UTF8.self)
    }
}
