"""Statements as trees of text, so that one that shows a difference can be made smaller."""


class Node:
    """Parts are strings and nodes. `kind` is the type of an expression, or what else the part is: nodes of one kind may
    take each other's place. `least` is what may always stand there; `""` for a part that can be left out."""

    __slots__ = ("kind", "parts", "least")

    def __init__(self, kind, parts, least=None):
        self.kind, self.parts, self.least = kind, list(parts), least

    def __str__(self):
        return "".join(str(part) for part in self.parts)

    def below(self):
        for part in self.parts:
            if isinstance(part, Node):
                yield part
                yield from part.below()


def fill(kind, template, arguments, least=None):
    """`template` with an argument for each `{}`."""
    pieces = template.split("{}")
    parts = [pieces[0]]
    for argument, piece in zip(arguments, pieces[1:], strict=True):
        parts += [argument, piece]
    return Node(kind, parts, least)


def replaced(root, target, fresh):
    """The tree with `fresh` in the place of `target`."""
    if root is target:
        return fresh
    parts = [replaced(part, target, fresh) if isinstance(part, Node) else part for part in root.parts]
    return Node(root.kind, parts, root.least)


def smaller(root):
    """Trees that are one step smaller, the boldest steps first."""
    nodes = [root, *root.below()]
    for node in nodes:
        if node.least is not None and str(node) != node.least:
            yield replaced(root, node, Node(node.kind, [node.least], node.least))
    for node in nodes:
        for inner in node.below():
            if inner.kind == node.kind and len(str(inner)) < len(str(node)):
                yield replaced(root, node, inner)


def shrink(root, is_different, patience=400):
    """A tree as small as can be found that is still different."""
    while patience > 0:
        for candidate in smaller(root):
            patience -= 1
            if patience <= 0:
                break
            if len(str(candidate)) < len(str(root)) and is_different(candidate):
                root = candidate
                break
        else:
            break
    return root
