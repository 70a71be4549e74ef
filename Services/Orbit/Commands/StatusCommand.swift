import Base
import Net
import ServiceKit

extension Command {
    static let status = Command(
        "status", summary: "Shows every process of the cluster, and what each says of itself.", options: [.data, .json]
    ) { arguments in
        let (plan, directory) = try existingCluster(arguments)
        let report = try StatusReport(plan, directory)
        if arguments.has("json") {
            Console().out(report.document.encoded(isPretty: true))
        } else {
            for line in report.lines(Console()) { Console().out(line) }
        }
        return report.isReady ? 0 : 3
    }
}

/// The cluster as its supervisor and its processes see it.
struct StatusReport {
    private struct Row {
        let spec: ProcessSpec
        let snapshot: ProcessSnapshot?
        let details: JSON?

        var pid: Int { snapshot?.pid ?? 0 }
        var state: String { snapshot?.state ?? "stopped" }
    }

    /// Members of `/status` that have a column or are shown otherwise.
    private static let common: Set<String> = [
        "role", "id", "pid", "version", "uptimeSeconds", "ready", "draining", "addresses", "admin", "data",
    ]

    let isReady: Bool
    private let plan: ClusterPlan
    private let rows: [Row]
    private let supervisor: Int64?

    init(_ plan: ClusterPlan, _ directory: ClusterDirectory) throws {
        self.plan = plan
        let status = directory.isSupervised ? try AdminClient.supervisorStatus(directory.paths) : nil
        supervisor = status?["supervisor"]?.integer
        var snapshots = (status?["processes"]?.elements ?? []).compactMap(ProcessSnapshot.init)
        if status == nil {
            snapshots = directory.livePids(plan).map { id, pid in
                let role = plan.processes.first { $0.id == id }?.role.rawValue ?? ""
                return ProcessSnapshot(
                    id: id, role: role, state: "unsupervised", pid: Int(pid), starts: 0, readyAfter: 0, why: "")
            }
        }
        rows = try plan.processes.map { spec in
            let snapshot = snapshots.first { $0.id == spec.id }
            var details: JSON?
            if let snapshot, snapshot.pid > 0 {
                let (code, body) = try AdminClient.ask(spec.admin, "/status")
                if code == 200 { details = try? JSON(parsing: body) }
            }
            return Row(spec: spec, snapshot: snapshot, details: details)
        }
        isReady = status?["ready"]?.bool ?? false
    }

    var document: JSON {
        .object([
            .init("data", .text(plan.options.data)), .init("ready", .bool(isReady)),
            .init("supervisor", supervisor.map { .integer($0) } ?? .null),
            .init("fsync", .text(plan.options.fsync)), .init("insecure", .bool(plan.options.isInsecure)),
            .init("processes", .array(rows.map(Self.encode))),
        ])
    }

    private static func encode(_ row: Row) -> JSON {
        var members: [JSON.Member] = [
            .init("role", .text(row.spec.role.rawValue)), .init("id", .text(row.spec.id)),
            .init("pid", row.pid > 0 ? .integer(Int64(row.pid)) : .null), .init("state", .text(row.state)),
            .init("addresses", .array(row.spec.addresses.map { .text($0) })), .init("admin", .text(row.spec.admin)),
            .init("data", row.spec.dataDirectory.map { .text($0) } ?? .null),
            .init("starts", .integer(Int64(row.snapshot?.starts ?? 0))),
        ]
        if let uptime = row.details?["uptimeSeconds"] { members.append(.init("uptimeSeconds", uptime)) }
        let own = (row.details?.members ?? []).filter { !common.contains($0.name) }
        members.append(.init("details", .object(own)))
        return .object(members)
    }

    func lines(_ console: Console) -> [String] {
        let word = isReady ? console.styled("ready", .green) : console.styled("not ready", .yellow)
        var lines = ["\(console.styled(plan.options.data, .bold))  \(word)"]
        if plan.options.isInsecure { lines.append(console.styled("INSECURE: no TLS between processes", .red)) }
        if supervisor == nil { lines.append("no supervisor: orbit up starts the cluster") }
        lines.append("")
        var table = [["ID", "STATE", "PID", "UP", "ADDRESSES"]]
        for row in rows {
            let uptime = row.details?["uptimeSeconds"]?.integer.map(Self.duration) ?? "-"
            let why = row.snapshot?.why ?? ""
            let state = row.state == "ready" || why.isEmpty ? row.state : "\(row.state) (\(why))"
            table.append([
                row.spec.id, state, row.pid > 0 ? "\(row.pid)" : "-", uptime,
                row.spec.addresses.filter { !$0.hasPrefix("unix:") }
                    .map { $0 == row.spec.tlsAddress ? "\($0) (TLS)" : $0 }.joined(separator: " "),
            ])
        }
        lines += Console.table(table)
        let placement = rows.compactMap { tables(of: $0) }.first
        if let placement { lines += [""] + placement.lines }
        for row in rows {
            let rest = (row.details?.members ?? []).filter { member in
                // Who the tables are of, and what a node says of its shards, is in them.
                !Self.common.contains(member.name)
                    && !(placement != nil && PlacementTable.members.contains(member.name))
            }
            guard !rest.isEmpty else { continue }
            lines.append("")
            lines += rest.map { "\(row.spec.id)  \($0.name): \(Self.plain($0.value))" }
        }
        return lines
    }

    private func tables(of row: Row) -> PlacementTable? {
        guard row.spec.role == .coordinator, let details = row.details else { return nil }
        return PlacementTable(details, processes: plan.processes.map { ($0.id, $0.addresses) })
    }

    private static func plain(_ value: JSON) -> String {
        switch value {
        case .text(let text): text
        case .array(let values): values.map(plain).joined(separator: ", ")
        case .object(let members): members.map { "\($0.name) \(plain($0.value))" }.joined(separator: " · ")
        case .null, .bool, .integer, .number: value.encoded()
        }
    }

    /// A length of time for people, in seconds, minutes or hours.
    static func duration(_ seconds: Int64) -> String {
        switch seconds {
        case ..<120: "\(seconds) s"
        case ..<7200: "\(seconds / 60) min"
        case _: "\(seconds / 3600) h"
        }
    }
}
