import Base
import Contracts
import Net
import Placement

/// Where a shard is led, for those who have come to the wrong node.
extension Node {
    /// Who serves the shard here.
    func leader(of shard: ShardID) -> ShardExecutor? { executors.first { $0.shard == shard && $0.isServing } }

    func addresses(of id: NodeID?) -> [String] { adopted?.map.nodes.first { $0.id == id }?.addresses ?? [] }

    /// Who leads elsewhere: as the replica here has heard from its peers, or as the map says if that is newer.
    func leadership(of shard: ShardID) -> (leader: NodeID?, term: Term) {
        let planned = adopted?.map.shard(shard)
        let (leader, term) = (planned?.leader, planned?.term ?? Term(rawValue: 0))
        guard let group = executors.first(where: { $0.shard == shard })?.group, group.term >= term else {
            return (leader, term)
        }
        return (group.leader, group.term)
    }

    /// Where to ask for the shard.
    func leaderAddresses(of shard: ShardID) -> [String] { addresses(of: leadership(of: shard).leader) }

    /// What a call for a shard that is not led here fails with.
    func directions(to shard: ShardID) -> (error: DatabaseError, trailers: GRPCMetadata) {
        let (leader, term) = leadership(of: shard)
        var trailers = GRPCMetadata()
        trailers.add(DirectoryPath.leaderNodeTrailer, "\(leader?.rawValue ?? 0)")
        trailers.add(DirectoryPath.leaderTrailer, addresses(of: leader).joined(separator: ","))
        trailers.add(DirectoryPath.leaderTermTrailer, "\(term)")
        return (DatabaseError(.notLeader, "This node does not lead shard \(shard)"), trailers)
    }
}
