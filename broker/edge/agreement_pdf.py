"""The text of an agreement as PDF, on A4, with a contents outline and embedded fonts."""

import io
from collections.abc import Iterator
from html import escape
from pathlib import Path

import reportlab
from reportlab.lib import colors
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import (
    CondPageBreak,
    Flowable,
    LongTable,
    Paragraph,
    SimpleDocTemplate,
    Spacer,
    TableStyle,
)

from broker.core.agreement_text import Agreement, Block, Grid, Section

_BLUE = colors.HexColor("#1d4d7a")
_LINE = colors.HexColor("#bbbbbb")
_SHADE = colors.HexColor("#eef3f8")
_MARGIN = 20 * mm
_TOGETHER = 45 * mm
_WIDTH = A4[0] - 2 * _MARGIN
_FONTS = {"Agreement": "Vera.ttf", "Agreement-Bold": "VeraBd.ttf"}

_TEXT = ParagraphStyle("text", fontName="Agreement", fontSize=9, leading=12.5)
_BOLD = ParagraphStyle("bold", _TEXT, fontName="Agreement-Bold")
_TITLE = ParagraphStyle("title", _BOLD, fontSize=20, leading=25)
_SUBTITLE = ParagraphStyle("subtitle", _TEXT, fontSize=11, textColor=colors.HexColor("#444444"))
_HEADINGS = {
    2: ParagraphStyle(
        "h2", _BOLD, fontSize=14, leading=18, spaceBefore=14, spaceAfter=5, textColor=_BLUE
    ),
    3: ParagraphStyle("h3", _BOLD, fontSize=11, leading=14, spaceBefore=10, spaceAfter=4),
}
_SHARES = {  # of the width, by number of columns
    2: (0.28, 0.72),
    3: (0.3, 0.28, 0.42),
    4: (0.28, 0.24, 0.24, 0.24),
    5: (0.2, 0.27, 0.21, 0.14, 0.18),
}


def agreement_pdf(agreement: Agreement) -> bytes:
    """Return the document. The same agreement gives the same bytes."""
    folder = Path(reportlab.__file__).parent / "fonts"
    for name, file in _FONTS.items():
        pdfmetrics.registerFont(TTFont(name, str(folder / file)))
    buffer = io.BytesIO()
    document = SimpleDocTemplate(
        buffer,
        pagesize=A4,
        leftMargin=_MARGIN,
        rightMargin=_MARGIN,
        topMargin=_MARGIN,
        bottomMargin=_MARGIN,
        title=agreement.title,
        subject=agreement.subtitle,
        lang="en-GB",
        invariant=1,
    )

    def foot(canvas: Canvas, _: object) -> None:
        canvas.setFont("Agreement", 8)
        canvas.drawString(_MARGIN, 12 * mm, agreement.subtitle)
        canvas.drawRightString(A4[0] - _MARGIN, 12 * mm, f"Page {canvas.getPageNumber()}")

    document.build(list(_story(agreement)), onFirstPage=foot, onLaterPages=foot)
    return buffer.getvalue()


class _Mark(Flowable):  # type: ignore[misc]  # the library has no types
    """An entry of the outline, which takes no place."""

    def __init__(self, title: str, key: str, level: int) -> None:
        super().__init__()
        self.title, self.key, self.level = title, key, level

    def wrap(self, *_: float) -> tuple[float, float]:
        return 0, 0

    def draw(self) -> None:
        self.canv.bookmarkPage(self.key)
        self.canv.addOutlineEntry(self.title, self.key, self.level)


def _story(agreement: Agreement) -> Iterator[Flowable]:
    yield Paragraph(escape(agreement.title), _TITLE)
    yield Paragraph(escape(agreement.subtitle), _SUBTITLE)
    for number, section in enumerate(agreement.sections):
        yield from _section(number, section)


def _section(number: int, section: Section) -> Iterator[Flowable]:
    first, *rest = section.blocks
    yield _Mark(section.title, f"s{number}", section.level - 2)
    yield CondPageBreak(_TOGETHER)  # a heading does not stand alone at the foot of a page
    yield Paragraph(escape(section.title), _HEADINGS[section.level])
    yield _block(first)
    for block in rest:
        yield from (Spacer(1, 6), _block(block))


def _block(block: Block) -> Flowable:
    return _grid(block) if isinstance(block, Grid) else Paragraph(escape(block.text), _TEXT)


def _grid(grid: Grid) -> Flowable:
    cells = [[Paragraph(escape(one), _BOLD) for one in grid.header]]
    for first, *others in grid.rows:
        row = [Paragraph(escape(one), _TEXT) for one in others]
        cells.append([Paragraph(escape(first), _BOLD), *row])
    style = TableStyle(
        [
            ("VALIGN", (0, 0), (-1, -1), "TOP"),
            ("BACKGROUND", (0, 0), (-1, 0), _SHADE),
            ("LINEBELOW", (0, 0), (-1, -1), 0.5, _LINE),
            ("LEFTPADDING", (0, 0), (-1, -1), 4),
            ("RIGHTPADDING", (0, 0), (-1, -1), 4),
        ]
    )
    widths = [share * _WIDTH for share in _SHARES[len(grid.header)]]
    return LongTable(cells, colWidths=widths, style=style, repeatRows=1)
