"""`fame protocol render`: an agreement as a page or a PDF for the people who sign it."""

from pathlib import Path
from typing import Annotated

import typer

from broker.cli.failure import EXIT_USAGE, Failure
from broker.cli.home import Config, now, write_output
from broker.cli.protocol.common import Protocols, Reference, find, register_of


def render(
    reference: Reference,
    out: Annotated[Path, typer.Option(help="File: NAME.html or NAME.pdf; - prints HTML.")],
    protocols: Protocols = None,
    config: Config = None,
) -> None:
    """Write an agreement in plain English, as HTML or PDF, from the file the broker enforces."""
    from broker.core.agreement_html import agreement_html
    from broker.core.agreement_text import agreement_text
    from broker.core.policy_log import digest_of_agreement

    register = register_of(protocols, config)
    protocol = find(register, reference)
    text = agreement_text(protocol, register, digest_of_agreement(protocol.terms), now())
    if out.suffix == ".pdf":
        from broker.edge.agreement_pdf import agreement_pdf

        content = agreement_pdf(text)
    elif out.suffix in (".html", ""):
        content = agreement_html(text).encode()
    else:
        raise Failure("That form is not known", EXIT_USAGE, {"try": "name a .html or .pdf file"})
    write_output(out, content)
