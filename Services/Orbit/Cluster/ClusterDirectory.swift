import Base
import Crypto
import Glibc
import ServiceKit

/// Makes and reads what a cluster keeps on disk: its directories, its lock, its certificates, its password.
struct ClusterDirectory {
    let paths: ClusterPaths
    let disk: any Disk

    init(data: String, disk: any Disk = PosixDisk()) {
        paths = ClusterPaths(data: data)
        self.disk = disk
    }

    /// The directory that `--data`, `ORBIT_DATA` or the default names, as an absolute path.
    static func path(_ arguments: Arguments) throws -> String {
        let text = arguments.text("data") ?? getenv("ORBIT_DATA").map { String(cString: $0) } ?? "orbit-data"
        guard !text.isEmpty else { throw UsageError("--data takes a directory") }
        if text.hasPrefix("/") { return trimmed(text) }
        var buffer = [CChar](repeating: 0, count: 4096)
        guard getcwd(&buffer, buffer.count) != nil else { throw SystemError("getcwd") }
        let here = String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        return trimmed(here + "/" + (text.hasPrefix("./") ? String(text.dropFirst(2)) : text))
    }

    private static func trimmed(_ path: String) -> String {
        path.count > 1 && path.hasSuffix("/") ? trimmed(String(path.dropLast())) : path
    }

    /// Makes the directories, readable by their owner only: that is what guards the sockets in them.
    func make() throws {
        for path in [paths.data, paths.run, paths.log, paths.tls] {
            try disk.makeDirectory(path)
            guard chmod(path, 0o700) == 0 else { throw SystemError("chmod \(path)") }
        }
    }

    /// Takes the lock that says "this cluster has a supervisor"; nil when another process holds it. Kept until the
    /// process ends: the descriptor is left open on purpose.
    func lock() throws -> Bool {
        let descriptor = open(paths.lock, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw SystemError("open \(paths.lock)") }
        if flock(descriptor, LOCK_EX | LOCK_NB) == 0 { return true }
        close(descriptor)
        return false
    }

    /// Whether a supervisor lives: somebody holds the lock.
    var isSupervised: Bool {
        let descriptor = open(paths.lock, O_RDWR | O_CLOEXEC)
        guard descriptor >= 0 else { return false }
        defer { close(descriptor) }
        return flock(descriptor, LOCK_EX | LOCK_NB) != 0
    }

    /// The pids in the pid files whose processes still run for this cluster.
    func livePids(_ plan: ClusterPlan) -> [String: pid_t] {
        var found: [String: pid_t] = [:]
        for spec in plan.processes {
            let text = SmallFile.text(paths.pidFile(spec.id))?.split(separator: "\n").first
            guard let pid = text.flatMap({ pid_t($0) }),
                ChildProcess.isAlive(pid, commandLineContains: "\(paths.run)/")
            else { continue }
            found[spec.id] = pid
        }
        return found
    }

    /// The cluster's authority and a certificate for every process of `plan` and for tools (`client`, role orbit),
    /// made when missing. Returns whether the authority is new.
    func makeCertificates(_ plan: ClusterPlan, now: Int64) throws -> Bool {
        let isNew = !disk.exists(paths.authority) || !disk.exists(paths.authorityKey)
        let authority: CertificateAuthority
        if isNew {
            authority = try CertificateAuthority.make(now: now)
            try SmallFile.replace(paths.authorityKey, authority.privateKeyPEM, on: disk)
            try SmallFile.replace(paths.authority, authority.certificatePEM, on: disk)
        } else {
            authority = try CertificateAuthority(
                certificatePEM: disk.read(paths.authority), privateKeyPEM: disk.read(paths.authorityKey))
        }
        for (role, id) in plan.processes.map({ ($0.role.rawValue, $0.id) }) + [("orbit", "client")] {
            let isComplete = disk.exists(paths.certificate(id)) && disk.exists(paths.key(id))
            guard isNew || !isComplete || expiresSoon(paths.certificate(id), now: now) else { continue }
            let issued = try authority.issue(role: role, id: id, now: now)
            try SmallFile.replace(paths.key(id), issued.privateKeyPEM, on: disk)
            try SmallFile.replace(paths.certificate(id), issued.certificatePEM, on: disk)
        }
        for spec in plan.processes where spec.role.isGateway {
            try makeClientCertificate(spec, plan.options.listen, authority, now: now)
        }
        return isNew
    }

    /// What `spec` shows to its clients. Made anew at every start, because it names the addresses at which clients may
    /// reach us now; they trust the authority, which stays.
    private func makeClientCertificate(
        _ spec: ProcessSpec, _ listen: String, _ authority: CertificateAuthority, now: Int64
    ) throws {
        let names = ServerNames(listen: listen)
        let issued = try authority.issue(
            role: "client-port", id: spec.id, dnsNames: names.dnsNames, addresses: names.addresses, purpose: .server,
            now: now)
        try SmallFile.replace(paths.clientKey(spec.id), issued.privateKeyPEM, on: disk)
        try SmallFile.replace(paths.clientCertificate(spec.id), issued.certificatePEM, on: disk)
    }

    /// Within thirty days of its end a certificate is issued anew at the next start.
    private func expiresSoon(_ path: String, now: Int64) -> Bool {
        guard let pem = try? disk.read(path), let subject = try? CertificateSubject(pem: pem) else { return true }
        return subject.notAfter < now + 30 * 86_400
    }

    /// The password of user `orbit`.
    enum Password: Hashable {
        /// From `ORBIT_PASSWORD`; not stored.
        case given(String)
        /// Made now and stored.
        case made(String)
        /// Stored by an earlier start.
        case stored(String)

        var text: String {
            switch self {
            case .given(let text), .made(let text), .stored(let text): text
            }
        }
    }

    func password() throws -> Password {
        if let given = getenv("ORBIT_PASSWORD").map({ String(cString: $0) }), !given.isEmpty { return .given(given) }
        if let stored = SmallFile.text(paths.password)?.split(separator: "\n").first { return .stored(String(stored)) }
        let made = Self.makePassword()
        try SmallFile.replace(paths.password, made + "\n", on: disk)
        return .made(made)
    }

    /// 24 letters and digits, 142 bits: nothing in it needs escaping in a URL or a shell.
    static func makePassword() -> String {
        let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789")
        var random = SystemRandom()
        return String((0..<24).compactMap { _ in alphabet.randomElement(using: &random) })
    }
}
