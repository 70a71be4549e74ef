import Base
import CProto

/// The schema of `Proto/`, embedded in the binary, in the form server reflection serves.
///
/// Each file is kept as its serialized `google.protobuf.FileDescriptorProto`; an index made on first use says which
/// file defines which symbol. Only the fields needed for that are looked at (numbers from descriptor.proto).
package struct DescriptorSet: Sendable {
    /// One .proto file.
    package struct File: Sendable {
        package let name: String
        /// The serialized `FileDescriptorProto`.
        package let bytes: Bytes
        /// Names of the files it imports.
        package let imports: [String]
        /// Fully qualified: messages, enumerations, services and methods.
        package let symbols: [String]
    }

    package let files: [File]
    private let byName: [String: Int]
    private let bySymbol: [String: Int]

    /// Everything in `Proto/`.
    package static let embedded: DescriptorSet = {
        var size = 0
        let start = orbit_descriptor_set(&size)
        return DescriptorSet(ByteView(start: start, count: size))
    }()

    /// Reads a serialized `FileDescriptorSet`; what it cannot read it leaves out.
    package init(_ bytes: ByteView) {
        var files: [File] = []
        var byName: [String: Int] = [:]
        var bySymbol: [String: Int] = [:]
        Self.forEachField(bytes) { number, view in
            guard number == 1 else { return }
            let file = Self.file(view)
            byName[file.name] = files.count
            for symbol in file.symbols { bySymbol[symbol] = files.count }
            files.append(file)
        }
        (self.files, self.byName, self.bySymbol) = (files, byName, bySymbol)
    }

    /// The file of that name, as written in imports.
    package func file(named name: String) -> File? { byName[name].map { files[$0] } }

    /// The file that defines a fully qualified symbol.
    package func file(containing symbol: String) -> File? { bySymbol[symbol].map { files[$0] } }

    /// `file` and everything it imports, itself first.
    package func closure(of file: File) -> [File] {
        var result = [file]
        var seen: Set<String> = [file.name]
        var next = 0
        while next < result.count {
            for name in result[next].imports where seen.insert(name).inserted {
                if let imported = self.file(named: name) { result.append(imported) }
            }
            next += 1
        }
        return result
    }

    private static func file(_ view: ByteView) -> File {
        var name = ""
        var package = ""
        var imports: [String] = []
        forEachField(view) { number, value in
            switch number {
            case 1: name = text(value)
            case 2: package = text(value)
            case 3: imports.append(text(value))
            default: break
            }
        }
        var symbols: [String] = []
        let prefix = package.isEmpty ? "" : package + "."
        forEachField(view) { number, value in
            switch number {
            case 4: addMessages(value, prefix: prefix, depth: 0, to: &symbols)
            case 5: symbols.append(prefix + nameField(value))
            case 6: addService(value, prefix: prefix, to: &symbols)
            default: break
            }
        }
        return File(name: name, bytes: view.bytes, imports: imports, symbols: symbols)
    }

    private static func addMessages(_ view: ByteView, prefix: String, depth: Int, to symbols: inout [String]) {
        guard depth < 32 else { return }
        let name = prefix + nameField(view)
        symbols.append(name)
        forEachField(view) { number, value in
            switch number {
            case 3: addMessages(value, prefix: name + ".", depth: depth + 1, to: &symbols)
            case 4: symbols.append(name + "." + nameField(value))
            default: break
            }
        }
    }

    private static func addService(_ view: ByteView, prefix: String, to symbols: inout [String]) {
        let name = prefix + nameField(view)
        symbols.append(name)
        forEachField(view) { number, value in
            if number == 2 { symbols.append(name + "." + nameField(value)) }
        }
    }

    private static func nameField(_ view: ByteView) -> String {
        var name = ""
        forEachField(view) { number, value in
            if number == 1 { name = text(value) }
        }
        return name
    }

    private static func text(_ view: ByteView) -> String { String(decoding: view, as: UTF8.self) }

    /// Calls `body` with each length-delimited field; stops at the first thing that is not protobuf.
    private static func forEachField(_ bytes: ByteView, _ body: (_ number: UInt64, _ value: ByteView) -> Void) {
        var reader = ByteReader(bytes)
        while let tag = reader.varint() {
            switch tag & 7 {
            case 0: if reader.varint() == nil { return }
            case 1: if reader.view(8) == nil { return }
            case 2:
                guard let value = reader.delimited() else { return }
                body(tag >> 3, value)
            case 5: if reader.view(4) == nil { return }
            default: return
            }
        }
    }
}
