"""Every vector through the whole examination, and past the schema to the verifiers alone."""

import json
import time

import pytest

from broker.core.envelope import receive
from broker.core.errors import Rejection
from broker.core.limits import LIMITS
from tests.unit.signing_world import LAX, NOW, SENDER_KEYS, VERIFIERS, examined
from tests.vectors.documents import FORGED, Vector
from tests.vectors.make_vectors import MANIFEST, manifest
from tests.vectors.packs import all_vectors

VECTORS = all_vectors()
ACCEPTED = [vector for vector in VECTORS if vector.code is None]
REJECTED = [vector for vector in VECTORS if vector.code is not None]
by_name = pytest.mark.parametrize("vector", VECTORS, ids=str)
with_each = pytest.mark.parametrize("verifier", VERIFIERS)

# The profile refuses an Id that only looks like one, so that no reader can take another
# element for the root. signxml passes on; the payload's schema then refuses the attribute.
OTHER_CODE_BY_SIGNXML = {"abuse/id-twice-other-case": "sender.schema"}

# What was signed in earnest by the sender's key, and is refused for what it says, not for
# how it is signed: a verifier by itself, given the sender's keys, is right to accept it.
WELL_SIGNED = {
    "abuse/unknown-sender",
    "abuse/other-sender-named",
    "parser/xinclude_file_signed",
    "parser/xml_base_signed",
}


@with_each
@by_name
def test_a_vector_is_accepted_or_rejected_with_its_code_within_a_second(
    vector: Vector, verifier: str
) -> None:
    raw = vector.make()
    code = OTHER_CODE_BY_SIGNXML.get(str(vector)) if verifier == "signxml" else None
    began = time.process_time()

    if vector.code is None:
        examined(raw, VERIFIERS[verifier])
    else:
        with pytest.raises(Rejection) as caught:
            examined(raw, VERIFIERS[verifier])
        assert caught.value.reason.value == (code or vector.code)

    assert time.process_time() - began < 1.0


@with_each
@by_name
def test_a_verifier_needs_no_schema_to_tell_genuine_from_hostile(
    vector: Vector, verifier: str
) -> None:
    raw = vector.make()

    try:
        verified = VERIFIERS[verifier].verify(receive(raw, LIMITS, LAX), SENDER_KEYS, NOW)
    except Rejection:
        assert vector.code is not None
    else:
        lenient = verifier == "signxml" and str(vector) in SIGNXML_ALONE
        assert vector.code is None or str(vector) in WELL_SIGNED or lenient
        assert f">{FORGED}<".encode() not in verified.signed


# Without the envelope's schema, signxml lets pass what changes nothing of what was signed.
SIGNXML_ALONE = {
    "abuse/id-twice-other-case",
    "abuse/id-twice-xml-id",
    "abuse/reference-type",
    "abuse/signature-with-id",
}


def test_the_packs_are_those_of_the_manifest() -> None:
    assert json.loads(MANIFEST.read_text()) == manifest()


def test_every_vector_has_a_name_of_its_own() -> None:
    assert len({str(vector) for vector in VECTORS}) == len(VECTORS)


def test_both_kinds_of_vector_are_there() -> None:
    assert len(ACCEPTED) > 30
    assert len(REJECTED) > 250


@pytest.mark.parametrize("vector", ACCEPTED, ids=str)
def test_both_verifiers_say_the_same_of_a_genuine_message(vector: Vector) -> None:
    raw = vector.make()

    profile, signxml = (examined(raw, verifier).verified for verifier in VERIFIERS.values())

    assert profile.signed == signxml.signed
    assert profile.digest == signxml.digest
    assert (profile.signer, profile.algorithm) == (signxml.signer, signxml.algorithm)
    assert profile.header == signxml.header


@pytest.mark.parametrize("vector", REJECTED, ids=str)
def test_a_rejection_repeats_nothing_of_the_message(vector: Vector) -> None:
    with pytest.raises(Rejection) as caught:
        examined(vector.make())

    told = f"{caught.value} {caught.value.detail} {caught.value.pointer}"
    for value in ("Sunderland City", "SCC-1", "liquidlogic", FORGED, "/etc/", "127.0.0.1"):
        assert value not in told
    assert caught.value.__cause__ is None
