import Glibc

/// Names and addresses by which clients may reach a gateway that listens on an interface: its certificate names them.
package struct ServerNames: Hashable, Sendable {
    package private(set) var dnsNames = ["localhost"]
    package private(set) var addresses = ["127.0.0.1", "::1"]

    /// `listen` is an address or a host name; a wildcard stands for this machine's name and all its addresses.
    package init(listen: String) {
        self.init(listen: listen, machineName: Self.machineName(), machineAddresses: Self.machineAddresses())
    }

    /// As above, on a machine that is described.
    package init(listen: String, machineName: String?, machineAddresses: [String]) {
        let host = listen.hasPrefix("[") && listen.hasSuffix("]") ? String(listen.dropFirst().dropLast()) : listen
        if ["0.0.0.0", "::"].contains(host) {
            if let machineName { addName(machineName) }
            for address in machineAddresses { addAddress(address) }
        } else if Self.isAddress(host) {
            addAddress(host)
        } else {
            addName(host)
        }
    }

    private mutating func addName(_ name: String) {
        let isPlain = name.utf8.allSatisfy { byte in
            switch byte {
            case 48...57, 65...90, 97...122, 45, 46: true
            default: false
            }
        }
        if isPlain, !name.isEmpty, !dnsNames.contains(name) { dnsNames.append(name) }
    }

    private mutating func addAddress(_ address: String) {
        if !addresses.contains(address) { addresses.append(address) }
    }

    private static func isAddress(_ text: String) -> Bool {
        var room = in6_addr()
        return inet_pton(AF_INET, text, &room) == 1 || inet_pton(AF_INET6, text, &room) == 1
    }

    private static func machineName() -> String? {
        var buffer = [CChar](repeating: 0, count: 256)
        guard gethostname(&buffer, buffer.count - 1) == 0 else { return nil }
        return String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// The addresses of all interfaces, but for those that mean something on one link only.
    private static func machineAddresses() -> [String] {
        var list: UnsafeMutablePointer<ifaddrs>?
        guard getifaddrs(&list) == 0 else { return [] }
        defer { freeifaddrs(list) }
        var found: [String] = []
        var next = list
        while let entry = next?.pointee {
            next = entry.ifa_next
            guard let address = entry.ifa_addr else { continue }
            let isV6 = Int32(address.pointee.sa_family) == AF_INET6
            guard isV6 || Int32(address.pointee.sa_family) == AF_INET else { continue }
            var text = [CChar](repeating: 0, count: 64)
            let size = isV6 ? MemoryLayout<sockaddr_in6>.size : MemoryLayout<sockaddr_in>.size
            guard
                getnameinfo(
                    address, socklen_t(size), &text, socklen_t(text.count), nil, 0, NI_NUMERICHOST) == 0
            else { continue }
            let name = String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
            if !name.contains("%") { found.append(name) }
        }
        return found
    }
}
