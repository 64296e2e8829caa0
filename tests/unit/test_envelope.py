from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from broker.core.envelope import check_bytes, hardened_parser, parse, read_header, receive
from broker.core.errors import Rejection
from broker.core.limits import LIMITS, Limits
from broker.core.message import Address, Practitioner
from broker.core.reasons import Reason
from tests.unit.signing_world import LAX, schemas
from tests.vectors.documents import document, header, opening, payload, wrapped
from tests.vectors.signer import signed

SIGNED = signed(document())


def rejection(raw: bytes | str, limits: Limits = LIMITS) -> Rejection:
    data = raw if isinstance(raw, bytes) else raw.encode()
    with pytest.raises(Rejection) as caught:
        receive(data, limits, schemas())
    return caught.value


def accepted(raw: str, limits: Limits) -> bool:
    try:
        receive(raw.encode(), limits, LAX)
    except Rejection as error:
        return error.reason not in {Reason.XML_LIMIT, Reason.TOO_LARGE}
    return True


# -- limits: at, just under, just over ----------------------------------------------------


@pytest.mark.parametrize(("spare", "fits"), [(1, True), (0, True), (-1, False)])
def test_bytes_are_limited(spare: int, *, fits: bool) -> None:
    limits = replace(LIMITS, body_bytes_max=len(SIGNED.encode()) + spare)

    assert accepted(SIGNED, limits) is fits


@pytest.mark.parametrize(("spare", "fits"), [(1, True), (0, True), (-1, False)])
@pytest.mark.parametrize("text", [SIGNED, '<?xml version="1.0"?>' + SIGNED])
def test_elements_are_limited(text: str, spare: int, *, fits: bool) -> None:
    count = sum(1 for _ in etree.fromstring(SIGNED.encode()).iter())
    limits = replace(LIMITS, elements_max=count + spare)

    assert accepted(text, limits) is fits


def test_the_shortest_elements_are_counted() -> None:
    text = SIGNED.replace(">10<", ">" + "<a/>" * 20_000 + "<")

    assert not accepted(text, replace(LIMITS, elements_max=20_000))


@pytest.mark.parametrize(("spare", "fits"), [(1, True), (0, True), (-1, False)])
@pytest.mark.parametrize("equals", ["=", " = ", "\n=\r\n\t"])
def test_attributes_and_namespace_declarations_are_limited(
    equals: str, spare: int, *, fits: bool
) -> None:
    root = etree.fromstring(SIGNED.encode())
    count = sum(len(element.attrib) for element in root.iter()) + SIGNED.count("xmlns")
    limits = replace(LIMITS, attributes_max=count + spare)

    assert accepted(SIGNED.replace('="', f'{equals}"'), limits) is fits


@pytest.mark.parametrize(("count", "fits"), [(63, True), (64, True), (65, False)])
@pytest.mark.parametrize("value", ['=""', " = '>'", "='=\"\"'", '="&lt;"'])
def test_attributes_of_one_element_are_limited(value: str, count: int, *, fits: bool) -> None:
    attributes = " ".join(f"a{n}{value}" for n in range(count))

    assert accepted(SIGNED.replace("<Version>", f"<Version {attributes}>"), LIMITS) is fits


def test_quotes_in_text_are_no_attributes() -> None:
    text = 'a="b" c=\'d\' &lt;a href="e"> \' ' * 99

    assert accepted(SIGNED.replace(">10<", f">{text}<"), LIMITS)


@pytest.mark.parametrize(("spare", "fits"), [(1, True), (0, True), (-1, False)])
def test_depth_is_limited(spare: int, *, fits: bool) -> None:
    # Below the root and the payload, 61 more make 64 with the last.
    text = SIGNED.replace("<Version>10", "<Version>" + "<a>" * 10 + "</a>" * 10)
    deepest = 4 + 10
    limits = replace(LIMITS, depth_max=deepest + spare)

    assert accepted(text, limits) is fits


def test_markup_in_a_cdata_section_is_text_and_counts_as_none() -> None:
    limits = replace(LIMITS, elements_max=60, attributes_max=30)
    text = SIGNED.replace(
        ">10<", '><![CDATA[<a b=""/><!-- --><?x?><!DOCTYPE>' + "<a/>" * 99 + "]]><"
    )

    assert accepted(text, limits)


# -- form ---------------------------------------------------------------------------------


def test_a_fault_in_the_header_is_told_by_path_and_line_and_not_by_value() -> None:
    broken = SIGNED.replace("<m:Purpose>VACANCY", "\n\n<m:Purpose>canary value")

    error = rejection(broken)

    assert error.reason is Reason.ENVELOPE
    assert error.pointer == "/Envelope/Header/Purpose"
    assert error.line == 3
    assert "canary" not in f"{error} {error.detail}"


def test_a_repeated_element_is_told_by_its_position() -> None:
    recipient = "<m:Recipient><m:AgencyId>ne-jobs-portal</m:AgencyId></m:Recipient>"
    broken = SIGNED.replace(recipient, recipient + recipient.replace("portal", "PORTAL"))

    assert rejection(broken).pointer == "/Envelope/Header/Recipient[2]/AgencyId"


def test_a_fault_in_the_signature_is_one_of_the_profile() -> None:
    error = rejection(SIGNED.replace("rsa-sha256", "rsa-sha1"))

    assert error.reason is Reason.SIGNATURE_PROFILE
    assert error.pointer == "/Envelope/Signature/SignedInfo/SignatureMethod"


def test_a_line_is_told_for_what_is_forbidden() -> None:
    text = SIGNED.replace("Sunderland", "<![CDATA[\n\n]]>Sunderland")

    assert rejection(text.replace(">10<", ">10<!-- --><")).line == 3
    assert rejection(text.replace(">10<", "><?x?>10<")).line == 3
    assert rejection(text.replace(">10<", ">&x;<")).line == 3


def test_a_schema_location_is_refused() -> None:
    hint = ' xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:schemaLocation="a b"'

    error = rejection(SIGNED.replace("<Version>", f"<Version{hint}>"))

    assert error.reason is Reason.XML_FORBIDDEN


def test_other_words_of_the_schema_instance_namespace_are_no_schema_location() -> None:
    declared = ' xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'

    received = receive(
        SIGNED.replace("<m:Envelope", f"<m:Envelope{declared}").encode(), LIMITS, schemas()
    )

    assert received.claimed_sender == "sunderland-csc"


def test_character_references_do_not_make_a_schema_location() -> None:
    text = SIGNED.replace("Sunderland City", "Sunderland&#32;City")

    assert receive(text.encode(), LIMITS, schemas()).claimed_sender == "sunderland-csc"


@pytest.mark.parametrize("sender", ["", "-", "Nobody Known", "x" * 65])
def test_the_claimed_sender_is_an_agency_id_even_without_a_schema(sender: str) -> None:
    text = SIGNED.replace(">sunderland-csc<", f">{sender}<")

    with pytest.raises(Rejection) as caught:
        receive(text.encode(), LIMITS, LAX)

    assert caught.value.reason is Reason.ENVELOPE


def test_an_envelope_without_an_agency_claims_no_sender() -> None:
    with pytest.raises(Rejection) as caught:
        receive(SIGNED.replace("AgencyId", "AgencyName").encode(), LIMITS, LAX)

    assert caught.value.reason is Reason.ENVELOPE
    assert caught.value.pointer == "/Envelope/Header/Sender/AgencyId"


def test_an_envelope_without_children_is_not_signed() -> None:
    assert rejection(opening() + "</m:Envelope>").reason is Reason.SIGNATURE_MISSING


def test_the_place_of_a_fault_is_the_root_when_the_log_is_gone() -> None:
    from broker.core.envelope import _not_an_envelope

    root = parse(SIGNED.encode())
    untouched = etree.XMLSchema(
        etree.fromstring(b'<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema"/>')
    )

    error = _not_an_envelope(root, untouched.error_log)

    assert (error.reason, error.pointer, error.line) == (Reason.ENVELOPE, "/Envelope", None)


# -- the second line of defence ------------------------------------------------------------


@pytest.mark.parametrize(
    "document_type", ["<!DOCTYPE a>", '<!DOCTYPE a [<!ENTITY b "c">]>', '<!DOCTYPE a SYSTEM "x">']
)
def test_the_parser_itself_refuses_a_document_type(document_type: str) -> None:
    with pytest.raises(Rejection) as caught:
        parse(f"{document_type}<a/>".encode())

    assert caught.value.reason is Reason.XML_FORBIDDEN


@pytest.mark.parametrize("entity", ['"text"', 'SYSTEM "/etc/hostname"'])
def test_the_parser_resolves_no_entity(entity: str) -> None:
    raw = f"<!DOCTYPE a [<!ENTITY b {entity}>]><a>&b;</a>".encode()

    assert etree.fromstring(raw, hardened_parser()).text is None


def test_the_parser_reads_utf_8_whatever_is_declared() -> None:
    root = parse('<?xml version="1.0" encoding="ISO-8859-1"?><a>é</a>'.encode())

    assert root.text == "é"


TOKENS = st.lists(
    st.sampled_from(
        [
            "<a>", "</a>", "<a/>", "<!--", "-->", "<![CDATA[", "]]>", "<?x", "?>", "<!DOCTYPE a>",
            "<!", "<", ">", "]", "-", "&lt;", "&#33;", "t", '<a b="', '"/>', "'", "\n", "!", "?",
        ]
    ),
    max_size=12,
)  # fmt: skip


@settings(max_examples=1500, derandomize=True, deadline=None)
@given(TOKENS)
def test_what_the_byte_check_lets_through_holds_no_forbidden_node(tokens: list[str]) -> None:
    raw = f"<r>{''.join(tokens)}</r>".encode()
    try:
        check_bytes(raw, LIMITS)
        root = parse(raw)
    except Rejection:
        return

    assert all(isinstance(node.tag, str) for node in root.iter())
    assert root.getprevious() is None
    assert root.getnext() is None


@settings(max_examples=1500, derandomize=True, deadline=None)
@given(TOKENS)
def test_what_holds_no_forbidden_node_is_let_through_by_the_byte_check(tokens: list[str]) -> None:
    raw = f"<r>{''.join(tokens)}</r>".encode()
    try:
        root = parse(raw)
    except Rejection:
        return
    if all(isinstance(node.tag, str) for node in root.iter()):
        check_bytes(raw, replace(LIMITS, elements_max=sum(1 for _ in root.iter())))


# -- header -------------------------------------------------------------------------------

FULL = (
    opening()
    + header()
    .replace(
        "</m:MessageId>",
        "</m:MessageId><m:CorrelationId>019aa000-0000-7000-8000-0000000000c1</m:CorrelationId>"
        "<m:CausationId>019aa000-0000-7000-8000-0000000000c2</m:CausationId>"
        "<m:ConversationId>019aa000-0000-7000-8000-0000000000c3</m:ConversationId>",
    )
    .replace(
        "</m:SystemId>",
        "</m:SystemId><m:Practitioner><m:Ref>P1</m:Ref><m:Role>Social worker</m:Role>"
        "<m:Clearance>Enhanced</m:Clearance><m:Authentication>AAL2</m:Authentication>"
        "</m:Practitioner>",
    )
    .replace(
        "</m:Recipient>",
        "</m:Recipient><m:Recipient><m:AgencyType>YOT</m:AgencyType><m:Area>E08000024</m:Area>"
        "</m:Recipient><m:Protocol>isp-1@2</m:Protocol>",
    )
    .replace(
        "</m:Purpose>",
        "</m:Purpose><m:Gateway>ca-2004-s10</m:Gateway><m:ReasonForAccess>DIRECT-CARE"
        "</m:ReasonForAccess><m:ConsentRef>c1</m:ConsentRef><m:ConsentRef>c2</m:ConsentRef>"
        "<m:DecisionRef>d1</m:DecisionRef>",
    )
    .replace("<m:Shielded>false", "<m:Shielded>1")
    .replace(
        "</m:Priority>",
        "</m:Priority><m:ExpiresAt>2026-11-21T10:00:00+01:00</m:ExpiresAt>"
        "<m:RespondBy>2026-11-20T12:00:00.5Z</m:RespondBy>",
    )
    + wrapped(payload())
    + "</m:Envelope>"
)


def test_every_part_of_a_header_is_read() -> None:
    read = read_header(parse(FULL.encode()))

    assert read.message_id == "019aa000-0000-7000-8000-000000000001"
    assert (read.message_type, read.schema_version) == ("VacancyClosed", "1.0")
    assert (read.sender, read.system) == ("sunderland-csc", "liquidlogic")
    assert read.recipients == (
        Address(agency_id=read.recipients[0].agency_id),
        Address(agency_type="YOT", area="E08000024"),
    )
    assert read.recipients[0].agency_id == "ne-jobs-portal"
    assert read.practitioner == Practitioner("P1", "Social worker", "Enhanced", "AAL2")
    assert [read.correlation_id, read.causation_id, read.conversation_id] == [
        f"019aa000-0000-7000-8000-0000000000c{n}" for n in (1, 2, 3)
    ]
    assert (read.protocol, read.purpose, read.gateway) == ("isp-1@2", "VACANCY", "ca-2004-s10")
    assert (read.reason_for_access, read.consent_refs) == ("DIRECT-CARE", ("c1", "c2"))
    assert (read.decision_ref, read.classification, read.shielded) == ("d1", "OFFICIAL", True)
    assert (read.priority, read.acknowledge) == ("ROUTINE", "L2")
    assert read.created_at == datetime(2026, 11, 20, 10, tzinfo=UTC)
    assert read.expires_at == datetime(2026, 11, 21, 9, tzinfo=UTC)
    assert read.respond_by == datetime(2026, 11, 20, 12, microsecond=500_000, tzinfo=UTC)


def test_what_a_header_leaves_out_is_empty() -> None:
    read = read_header(parse(document().encode()))

    assert read.practitioner is None
    assert read.expires_at is None
    assert read.consent_refs == ()
    assert not read.shielded


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("2026-11-20T10:00:00Z</m:C", "2026-11-20T24:00:00Z</m:C"),
        ("2026-11-20T10:00:00Z</m:C", "2026-11-20T10:00:00</m:C"),
        ("2026-11-20T10:00:00Z</m:C", "0001-01-01T00:00:00+14:00</m:C"),
        (">sunderland-csc<", "> <"),
        ("m:Handling>", "m:Handing>"),
        ("m:Purpose>", "m:Porpoise>"),
    ],
)
def test_a_header_with_an_impossible_value_is_rejected(old: str, new: str) -> None:
    with pytest.raises(Rejection) as caught:
        read_header(parse(document().replace(old, new).encode()))

    assert caught.value.reason is Reason.ENVELOPE
    assert caught.value.pointer == "/Envelope/Header"


def test_an_envelope_without_a_header_is_rejected() -> None:
    with pytest.raises(Rejection) as caught:
        read_header(parse(b"<a/>"))

    assert caught.value.reason is Reason.ENVELOPE
