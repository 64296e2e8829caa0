"""An agreement is written for people: a page, and a PDF that opens and reads."""

import io
from pathlib import Path

import pytest
from pypdf import PdfReader
from pypdf.generic import Destination

from broker.cli import run

ROOT = Path(__file__).parents[2]
PROTOCOLS = ["--protocols", str(ROOT / "protocols")]


def rendered(path: Path, reference: str = "ne-yot-checks") -> bytes:
    assert run(["protocol", "render", reference, "--out", str(path), *PROTOCOLS]) == 0
    return path.read_bytes()


def test_a_pdf_holds_what_the_agreement_says(tmp_path: Path) -> None:
    content = rendered(tmp_path / "one.pdf")
    reader = PdfReader(io.BytesIO(content))
    text = " ".join(page.extract_text() for page in reader.pages)

    assert reader.metadata is not None
    assert reader.metadata.title == "Youth offending team checks"
    assert str(reader.root_object["/Lang"]) == "en-GB"
    assert next(one.title for one in reader.outline if isinstance(one, Destination)) == "In short"
    assert "1 September 2025" in text
    assert "Crime and Disorder Act 1998 s.115" in text
    assert "Sunderland youth offending team" in text
    assert rendered(tmp_path / "two.pdf") == content


def test_a_page_is_written_or_printed(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    page = rendered(tmp_path / "one.html", "ne-memorandum").decode()
    assert "Memorandum of understanding" in page

    assert run(["protocol", "render", "ne-memorandum", "--out", "-", *PROTOCOLS]) == 0
    assert capfdbinary.readouterr().out.startswith(b"<!DOCTYPE html>")


def test_another_form_is_not_known(tmp_path: Path) -> None:
    out = str(tmp_path / "one.docx")

    assert run(["protocol", "render", "ne-memorandum", "--out", out, *PROTOCOLS]) == 2
