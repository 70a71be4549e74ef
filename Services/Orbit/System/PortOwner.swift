import Base
import Glibc
import Net

/// Who holds a TCP port, read from /proc.
package enum PortOwner {
    /// The inode of the socket that listens on `port`, from the text of /proc/net/tcp or tcp6.
    ///
    /// Columns: slot, local address (hexadecimal `address:port`), remote address, state (0A: listening), four more,
    /// uid, timeout, inode.
    package static func listeningInode(port: Int, in table: String) -> String? {
        for line in table.split(separator: "\n").dropFirst() {
            let columns = line.split(separator: " ", omittingEmptySubsequences: true)
            guard columns.count > 9, columns[3] == "0A", let colon = columns[1].lastIndex(of: ":"),
                Int(columns[1][columns[1].index(after: colon)...], radix: 16) == port
            else { continue }
            return String(columns[9])
        }
        return nil
    }

    /// `redis-server (pid 812)`, or what little is known: other users' processes are visible to root only.
    static func describe(port: Int) -> String {
        let tables = ["/proc/net/tcp", "/proc/net/tcp6"].compactMap(SmallFile.text)
        guard let inode = tables.lazy.compactMap({ listeningInode(port: port, in: $0) }).first else {
            return "another process"
        }
        guard let pid = holder(ofSocket: inode) else { return "a process of another user" }
        let name = SmallFile.text("/proc/\(pid)/comm")?.split(separator: "\n").first.map(String.init) ?? "a process"
        return "\(name) (pid \(pid))"
    }

    private static func holder(ofSocket inode: String) -> Int? {
        let wanted = "socket:[\(inode)]"
        for name in names(in: "/proc") {
            guard let pid = Int(name) else { continue }
            for descriptor in names(in: "/proc/\(pid)/fd") {
                var buffer = [CChar](repeating: 0, count: 64)
                let count = readlink("/proc/\(pid)/fd/\(descriptor)", &buffer, buffer.count)
                guard count > 0 else { continue }
                let target = String(decoding: buffer[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self)
                if target == wanted { return pid }
            }
        }
        return nil
    }

    private static func names(in directory: String) -> [String] {
        guard let handle = opendir(directory) else { return [] }
        defer { closedir(handle) }
        var names: [String] = []
        while let entry = readdir(handle) {
            names.append(
                withUnsafePointer(to: &entry.pointee.d_name) {
                    $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
                })
        }
        return names
    }

    /// Whether `port` of IPv4 address `host` (or of every interface) can be bound now.
    static func isFree(host: String, port: Int) -> Bool {
        let isV6 = host.contains(":")
        let descriptor = socket(isV6 ? AF_INET6 : AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        guard descriptor >= 0 else { return true }
        defer { close(descriptor) }
        var one: Int32 = 1
        // As our own listeners do: a port in TIME_WAIT counts as free.
        setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &one, socklen_t(MemoryLayout<Int32>.size))
        if isV6 {
            var address = sockaddr_in6()
            address.sin6_family = sa_family_t(AF_INET6)
            address.sin6_port = in_port_t(port).bigEndian
            guard inet_pton(AF_INET6, host, &address.sin6_addr) == 1 else { return true }
            return bound(descriptor, &address)
        }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = in_port_t(port).bigEndian
        guard inet_pton(AF_INET, host, &address.sin_addr) == 1 else { return true }
        return bound(descriptor, &address)
    }

    private static func bound<Address>(_ descriptor: Int32, _ address: inout Address) -> Bool {
        let code = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(descriptor, $0, socklen_t(MemoryLayout<Address>.size))
            }
        }
        return code == 0 || errno != EADDRINUSE
    }
}
