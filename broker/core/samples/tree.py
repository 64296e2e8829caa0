"""Payloads as nested pairs of a name and its content, and their XML."""

from collections.abc import Sequence

Tree = tuple[str, "str | Sequence[Tree]"]

_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def render(tree: Tree, namespace: str = "") -> str:
    """Return ``tree`` as XML on one line, with ``namespace`` as its default one if given."""
    name, content = tree
    declared = f' xmlns="{namespace}"' if namespace else ""
    if isinstance(content, str):
        inner = content.translate(_ESCAPES)
    else:
        inner = "".join(render(child) for child in content)
    return f"<{name}{declared}>{inner}</{name}>"


def flag(answer: bool) -> str:  # noqa: FBT001 - it is the value itself
    """Return ``true`` or ``false``."""
    return "true" if answer else "false"
