"""Message types written out for people: one page a family, as HTML and as Markdown.

A part that occurs in several places, such as a name or an address, is described once and
linked. Everything comes from the schema that is enforced, the rules and the samples.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from lxml import etree

from broker.core.rules import RULES
from broker.core.schema_model import Declaration

_EXAMPLE_MAX = 60  # characters
_VALUES_MAX = 40


@dataclass(frozen=True, slots=True)
class Message:
    """A message type: its facts, label first, its declaration, and valid payloads of it."""

    facts: tuple[tuple[str, str], ...]
    root: Declaration
    samples: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """One element in a table. ``part`` is the shared part that says what is inside, if any."""

    depth: int
    name: str
    type_name: str
    part: str
    times: str
    category: str
    meaning: str
    values: tuple[tuple[str, str], ...]
    example: str


@dataclass(frozen=True, slots=True)
class Section:
    """A message, or a part that several places share."""

    name: str
    meaning: str
    facts: tuple[tuple[str, str], ...]
    rules: tuple[tuple[str, str], ...]
    rows: tuple[Row, ...]
    sample: str


@dataclass(frozen=True, slots=True)
class Page:
    """A family of message types."""

    title: str
    introduction: str
    messages: tuple[Section, ...]
    parts: tuple[Section, ...]
    forms: tuple[tuple[str, str], ...]  # simple types: name and what a value looks like


def make_page(title: str, introduction: str, messages: Sequence[Message]) -> Page:
    """Return the page of a family."""
    places: dict[str, list[Declaration]] = {}
    for message in messages:
        for declaration in message.root.walk():
            if declaration.children and declaration.path:
                places.setdefault(declaration.type_name, []).append(declaration)
    shared = {name: found for name, found in places.items() if len(found) > 1}
    examples = _examples(messages)
    return Page(
        title=title,
        introduction=introduction,
        messages=tuple(_message(message, shared, examples) for message in messages),
        parts=tuple(
            _part(name, found[0], shared, examples) for name, found in sorted(shared.items())
        ),
        forms=tuple(sorted(_forms(messages).items())),
    )


def _forms(messages: Sequence[Message]) -> dict[str, str]:
    declarations = (one for message in messages for one in message.root.walk())
    return {
        one.type_name: one.type_documentation
        for one in declarations
        if one.type_documentation and not one.children and not one.values
    }


def _message(
    message: Message, shared: Mapping[str, object], examples: Mapping[tuple[str, str], str]
) -> Section:
    return Section(
        name=message.root.name,
        meaning=message.root.documentation,
        facts=message.facts,
        rules=tuple(_rules(message.root)),
        rows=tuple(_rows(message.root, shared, examples, 0)),
        sample=_pretty(message.samples[0]) if message.samples else "",
    )


def _part(
    name: str,
    declaration: Declaration,
    shared: Mapping[str, object],
    examples: Mapping[tuple[str, str], str],
) -> Section:
    return Section(
        name=name,
        meaning=declaration.type_documentation,
        facts=(),
        rules=(),
        rows=tuple(_rows(declaration, shared, examples, 0, stated=True)),
        sample="",
    )


def _rules(root: Declaration) -> Iterator[tuple[str, str]]:
    for name in dict.fromkeys(declaration.name for declaration in root.walk()):
        if name in RULES:
            yield name, RULES[name].sentence


def _rows(
    parent: Declaration,
    shared: Mapping[str, object],
    examples: Mapping[tuple[str, str], str],
    depth: int,
    *,
    stated: bool = False,
) -> Iterator[Row]:
    for child in parent.children:
        part = child.type_name if child.type_name in shared else ""
        yield Row(
            depth=depth,
            name=child.name,
            type_name=child.type_name,
            part=part,
            times=_times(child),
            category=_category(child, stated=stated),
            meaning=child.documentation,
            values=child.values,
            example=examples.get((parent.type_name, child.name), ""),
        )
        if not part:
            yield from _rows(child, shared, examples, depth + 1, stated=stated)


def _category(declaration: Declaration, *, stated: bool) -> str:
    category = declaration.stated_category if stated else declaration.category
    return f"{category}, with all below" if declaration.spreads else category


def _times(declaration: Declaration) -> str:
    most = "*" if declaration.max_occurs is None else str(declaration.max_occurs)
    least = str(declaration.min_occurs)
    times = least if least == most else f"{least}..{most}"
    return f"{times}, or its alternative" if declaration.alternative else times


def _examples(messages: Sequence[Message]) -> dict[tuple[str, str], str]:
    """Return a value for every element that the samples hold, by type of parent and name."""
    found: dict[tuple[str, str], str] = {}
    for message in messages:
        for sample in message.samples:
            _collect(etree.fromstring(sample), message.root, found)
    return found


def _collect(
    element: etree._Element, declaration: Declaration, found: dict[tuple[str, str], str]
) -> None:
    below = {child.name: child for child in declaration.children}
    for child in element:
        name = etree.QName(child).localname
        if len(child):
            _collect(child, below[name], found)
        elif child.text:
            shortened = child.text[:_EXAMPLE_MAX] + "…" * (len(child.text) > _EXAMPLE_MAX)
            found.setdefault((declaration.type_name, name), shortened)


def _pretty(sample: bytes) -> str:
    root = etree.fromstring(sample)
    etree.indent(root)
    return etree.tostring(root, encoding="unicode")


# -- Markdown --------------------------------------------------------------------------------


def markdown(page: Page) -> str:
    """Return ``page`` as Markdown."""
    lines = [f"# {page.title}", "", page.introduction, ""]
    for section in page.messages:
        lines += _markdown_section(section)
    if page.parts:
        lines += ["# Parts that several places share", ""]
    for section in page.parts:
        lines += _markdown_section(section)
    lines += ["# What a value looks like", "", "| type | form |", "|---|---|"]
    lines += [f"| {name} | {_cell(form)} |" for name, form in page.forms]
    return "\n".join([*lines, ""])


def _markdown_section(section: Section) -> list[str]:
    lines = [f"## {section.name}", "", section.meaning, ""]
    lines += [f"- {label}: {_cell(text)}" for label, text in section.facts]
    lines += [""] if section.facts else []
    lines += ["| element | type | times | category | meaning | example |", "|---" * 6 + "|"]
    lines += [_markdown_row(row) for row in section.rows]
    if section.rules:
        lines += ["", "Beyond the schema:", ""]
        lines += [f"- `{name}`: {sentence}" for name, sentence in section.rules]
    if section.sample:
        lines += ["", "```xml", section.sample, "```"]
    return [*lines, ""]


def _markdown_row(row: Row) -> str:
    name = f"{'· ' * row.depth}`{row.name}`"
    kind = f"[{row.part}](#{row.part.lower()})" if row.part else row.type_name
    meaning = " ".join(part for part in (row.meaning, _values(row)) if part)
    example = f"`{row.example}`" if row.example else ""
    cells = (name, kind, row.times, row.category, _cell(meaning), _cell(example))
    return f"| {' | '.join(cells)} |"


def _cell(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("|", "\\|")


def _values(row: Row) -> str:
    if not row.values or len(row.values) > _VALUES_MAX:
        return ""
    told = (f"{value} ({words.rstrip('.')})" if words else value for value, words in row.values)
    return f"One of: {', '.join(told)}."


# -- HTML ------------------------------------------------------------------------------------

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --link: #0b5cad; }
@media (prefers-color-scheme: dark) { :root { --link: #7ab8ff; } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 78rem; margin: 0 auto; padding: 1rem; }
a { color: var(--link); } h2 { margin-top: 3rem; border-top: 1px solid var(--line);
padding-top: 1rem; } nav ul { columns: 18rem; padding-left: 1.2rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-size: .92rem; }
th, td { text-align: left; vertical-align: top; padding: .35rem .6rem;
border-bottom: 1px solid var(--line); } th { background: var(--soft); }
td:first-child { white-space: nowrap; } code, pre { font: .88em ui-monospace, monospace; }
pre { background: var(--soft); padding: .8rem; overflow-x: auto; }
td code.value { overflow-wrap: anywhere; } .values { opacity: .8; display: block; }
td:last-child { min-width: 10rem; } .scroll:focus { outline: 3px solid var(--link); }
@media screen and (max-width: 40rem) { td:nth-child(5) { min-width: 14rem; } }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; }
dt { font-weight: 600; } dd { margin: 0; overflow-wrap: anywhere; }
"""


def html(page: Page) -> str:
    """Return ``page`` as one HTML file that needs no other."""
    links = "".join(
        f'<li><a href="#{escape(section.name)}">{escape(section.name)}</a></li>'
        for section in page.messages
    )
    shared = "<h1>Parts that several places share</h1>" if page.parts else ""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(page.title)}</title><style>{_STYLE}</style></head><body><main>"
        f"<h1>{escape(page.title)}</h1><p>{escape(page.introduction)}</p>"
        f'<nav aria-label="Messages"><ul>{links}</ul></nav>'
        f"{''.join(_html_section(section) for section in page.messages)}{shared}"
        f"{''.join(_html_section(section) for section in page.parts)}{_html_forms(page)}"
        "</main></body></html>\n"
    )


def _html_forms(page: Page) -> str:
    forms = "".join(
        f'<dt id="{escape(name)}">{escape(name)}</dt><dd>{escape(form)}</dd>'
        for name, form in page.forms
    )
    return f"<h1>What a value looks like</h1><dl>{forms}</dl>" if forms else ""


def _html_section(section: Section) -> str:
    facts = "".join(
        f"<dt>{escape(label)}</dt><dd>{escape(text)}</dd>" for label, text in section.facts
    )
    heads = "".join(
        f'<th scope="col">{head}</th>'
        for head in ("Element", "Type", "Times", "Category", "Meaning", "Example")
    )
    rules = "".join(
        f"<li><code>{escape(name)}</code>: {escape(sentence)}</li>"
        for name, sentence in section.rules
    )
    sample = escape(section.sample)
    return (
        f'<section><h2 id="{escape(section.name)}">{escape(section.name)}</h2>'
        f"<p>{escape(section.meaning)}</p>{f'<dl>{facts}</dl>' if facts else ''}"
        f'<div class="scroll" role="region" aria-label="{escape(section.name)}" tabindex="0">'
        f"<table><thead><tr>{heads}</tr></thead>"
        f"<tbody>{''.join(_html_row(row) for row in section.rows)}</tbody></table></div>"
        f"{f'<h3>Beyond the schema</h3><ul>{rules}</ul>' if rules else ''}"
        f"{f'<details><summary>A sample</summary><pre>{sample}</pre></details>' if sample else ''}"
        "</section>"
    )


def _html_row(row: Row) -> str:
    kind = escape(row.type_name)
    if row.part:
        kind = f'<a href="#{escape(row.part)}">{kind}</a>'
    values = f'<span class="values">{escape(_values(row))}</span>' if row.values else ""
    example = f'<code class="value">{escape(row.example)}</code>' if row.example else ""
    return (
        f'<tr><td style="padding-left:{0.6 + 1.2 * row.depth:.1f}rem">'
        f"<code>{escape(row.name)}</code></td><td>{kind}</td><td>{row.times}</td>"
        f"<td>{escape(row.category)}</td><td>{escape(row.meaning)}{values}</td>"
        f"<td>{example}</td></tr>"
    )
