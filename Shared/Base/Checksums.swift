import CSystem

/// CRC-32C: guards log records, snapshots and manifests. SSE4.2 where the processor has it (8 GB/s), tables elsewhere.
package enum CRC32C {
    /// The checksum of `view`, or of everything before it and `view` when `crc` is that checksum.
    package static func checksum(_ view: ByteView, extending crc: UInt32 = 0) -> UInt32 {
        orbit_crc32c(crc, view.baseAddress, view.count)
    }

    /// The table version, whatever the processor; tests hold it against `checksum`.
    package static func software(_ view: ByteView, extending crc: UInt32 = 0) -> UInt32 {
        orbit_crc32c_software(crc, view.baseAddress, view.count)
    }
}

/// CRC-16/XMODEM, by which Redis Cluster defines hash slots.
package enum CRC16 {
    package static func checksum(_ view: ByteView) -> UInt16 { orbit_crc16(view.baseAddress, view.count) }
}
