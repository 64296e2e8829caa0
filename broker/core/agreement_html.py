"""The text of an agreement as one page of HTML, for screens, screen readers and printers."""

from html import escape

from broker.core.agreement_text import Agreement, Block, Grid, Section

_STYLE = """
body { font: 1rem/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff;
  max-width: 60rem; margin: 0 auto; padding: 1.5rem; }
h1 { line-height: 1.2; margin-bottom: 0; } h2 { border-bottom: 2px solid #1d4d7a;
  margin-top: 2.5rem; } h3 { margin-top: 2rem; }
.subtitle { color: #444; margin-top: .25rem; }
nav ul { columns: 2; padding-left: 1.2rem; } a { color: #1d4d7a; }
.scroll { overflow-x: auto; } .scroll:focus { outline: 3px solid #1d4d7a; }
table { border-collapse: collapse; width: 100%; margin: 1rem 0; }
caption { text-align: left; font-weight: 600; padding-bottom: .25rem; }
th, td { text-align: left; vertical-align: top; padding: .4rem .6rem;
  border-bottom: 1px solid #bbb; overflow-wrap: anywhere; }
thead th { background: #eef3f8; } tbody th { font-weight: 600; width: 26%; }
.never td, .never th { background: #fbf1f0; }
@media screen and (max-width: 40rem) { nav ul { columns: 1; } th, td { min-width: 7.5rem; } }
@media print { body { max-width: none; padding: 0; font-size: 10pt; } nav { display: none; }
  tr { break-inside: avoid; } h2, h3 { break-after: avoid; } }
"""


def agreement_html(agreement: Agreement) -> str:
    """Return the page. Nothing in it is fetched from elsewhere, and nothing of it runs."""
    title = escape(agreement.title)
    links = "".join(
        f'<li><a href="#s{number}">{escape(section.title)}</a></li>'
        for number, section in enumerate(agreement.sections, 1)
        if section.level == 2  # noqa: PLR2004 - the chapters
    )
    body = "".join(_section(number, one) for number, one in enumerate(agreement.sections, 1))
    return (
        '<!DOCTYPE html>\n<html lang="en-GB">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<header>"
        f'<h1>{title}</h1><p class="subtitle">{escape(agreement.subtitle)}</p></header>\n'
        f'<nav aria-label="Contents"><ul>{links}</ul></nav>\n<main>\n{body}</main>\n'
        "</body>\n</html>\n"
    )


def _section(number: int, section: Section) -> str:
    level = section.level
    blocks = "".join(map(_block, section.blocks))
    heading = f'<h{level} id="s{number}">{escape(section.title)}</h{level}>'
    return f"{heading}\n{blocks}"


def _block(block: Block) -> str:
    if not isinstance(block, Grid):
        return f"<p>{escape(block.text)}</p>\n"
    header = "".join(f'<th scope="col">{escape(one)}</th>' for one in block.header)
    rows = "".join(map(_row, block.rows))
    caption = escape(block.caption)
    return (
        f'<div class="scroll" role="region" aria-label="{caption}" tabindex="0"><table>'
        f"<caption>{caption}</caption>"
        f"<thead><tr>{header}</tr></thead>\n<tbody>\n{rows}</tbody></table></div>\n"
    )


def _row(row: tuple[str, ...]) -> str:
    first, *others = row
    cells = "".join(f"<td>{escape(one)}</td>" for one in others)
    never = ' class="never"' if others and others[0] == "Never" else ""
    return f'<tr{never}><th scope="row">{escape(first)}</th>{cells}</tr>\n'
