"""The hot verifier and signxml are held against each other on changed and odd messages.

`ProfileVerifier` is never more lenient. It is stricter for the reasons of `STRICTER` only,
and with the envelope schema in front, as in the broker, for the last of them only.
"""

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lxml import etree

from broker.core.envelope import EnvelopeSchema, parse, receive
from broker.core.errors import Rejection
from broker.core.limits import LIMITS
from broker.core.reasons import Reason
from broker.core.signature import DSIG, Verified
from tests.unit.signing_world import LAX, NOW, SENDER_KEYS, VERIFIERS, schemas
from tests.vectors.mutations import changed_bytes, changed_elements, signed_otherwise
from tests.vectors.packs import all_vectors

often = settings(
    max_examples=400,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def outcome(raw: bytes, verifier: str, schema: EnvelopeSchema) -> Verified | Reason:
    try:
        return VERIFIERS[verifier].verify(receive(raw, LIMITS, schema), SENDER_KEYS, NOW)
    except Rejection as error:
        return error.reason


def _in_signature(raw: bytes) -> list[etree._Element]:
    return list(parse(raw).iter(f"{{{DSIG}}}*"))


def has_other_attributes(raw: bytes) -> bool:
    """Attributes in the signature beside Algorithm and URI, such as Id and Type."""
    return any(set(element.attrib) - {"Algorithm", "URI"} for element in _in_signature(raw))


def has_other_prefixes(raw: bytes) -> bool:
    """Elements of the signature in the right namespace under different prefixes."""
    return len({element.prefix for element in _in_signature(raw)}) > 1


def has_other_namespaces_in_signed_info(raw: bytes) -> bool:
    """Attributes or elements of other namespaces, which canonical XML has to declare."""
    return any(
        not str(node.tag).startswith(f"{{{DSIG}}}")
        for element in _in_signature(raw)
        for node in element.iter()
    )


def has_an_id_twice(raw: bytes) -> bool:
    """ID, id or xml:id with the value that the reference names, which some readers follow."""
    values = [
        value
        for element in parse(raw).iter()
        for name, value in element.attrib.items()
        if str(name).rpartition("}")[2] in ("Id", "ID", "id")
    ]
    return len(values) != len(set(values))


STRICTER: dict[str, tuple[Callable[[bytes], bool], ...]] = {
    "lax": (
        has_other_attributes,
        has_other_prefixes,
        has_other_namespaces_in_signed_info,
        has_an_id_twice,
    ),
    "sealed": (has_other_prefixes, has_an_id_twice),
}
SCHEMAS: dict[str, EnvelopeSchema] = {"lax": LAX, "sealed": schemas()}
each_schema = pytest.mark.parametrize("schema", SCHEMAS)


def without_key_info(raw: bytes) -> bytes:
    root = parse(raw)
    for element in list(root.iter(f"{{{DSIG}}}KeyInfo")):
        parent = element.getparent()
        assert parent is not None
        parent.remove(element)
    return etree.tostring(root, encoding="utf-8")


def check_agreement(raw: bytes, schema: str) -> None:
    profile = outcome(raw, "profile", SCHEMAS[schema])
    signxml = outcome(raw, "signxml", SCHEMAS[schema])

    if isinstance(profile, Verified):
        if signxml != profile and schema == "lax":
            # KeyInfo counts for nothing; that it has its form, the sealed schema sees to.
            signxml = outcome(without_key_info(raw), "signxml", LAX)
        assert signxml == profile, "the profile verifier is more lenient than signxml"
    elif isinstance(signxml, Verified):
        assert profile is Reason.SIGNATURE_PROFILE
        assert any(stricter(raw) for stricter in STRICTER[schema]), "stricter for no good reason"


@each_schema
@pytest.mark.parametrize("vector", all_vectors(), ids=str)
def test_they_agree_on_every_vector(vector: object, schema: str) -> None:
    check_agreement(vector.make(), schema)  # type: ignore[attr-defined]


@each_schema
@often
@given(raw=changed_bytes())
def test_they_agree_on_messages_with_changed_bytes(schema: str, raw: bytes) -> None:
    check_agreement(raw, schema)


@each_schema
@often
@given(raw=changed_elements())
def test_they_agree_on_messages_with_changed_elements(schema: str, raw: bytes) -> None:
    check_agreement(raw, schema)


@each_schema
@often
@given(raw=signed_otherwise())
def test_they_agree_on_what_was_signed_in_another_way(schema: str, raw: bytes) -> None:
    check_agreement(raw, schema)


@each_schema
@often
@given(raw=st.binary(max_size=200))
def test_they_agree_on_noise(schema: str, raw: bytes) -> None:
    check_agreement(raw, schema)
