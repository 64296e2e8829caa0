"""xmlsec1, a verifier in C that shares no code with ours, as the third opinion.

What we accept it accepts; what it signs we accept. It may be more lenient: it knows no
partnership and verifies whatever a signature says that it covers.
"""

import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from broker.core.envelope import receive
from broker.core.errors import Rejection
from broker.core.limits import LIMITS
from broker.core.signing import build_envelope, sign_envelope
from tests.live.tools import require
from tests.unit.signing_world import (
    KEYS,
    LAX,
    NOW,
    SENDER_KEYS,
    VERIFIERS,
    examined,
    key,
    signing_key,
)
from tests.unit.test_signing import HEADER
from tests.vectors.documents import Vector, document, payload
from tests.vectors.mutations import changed_bytes, changed_elements, signed_otherwise
from tests.vectors.packs import all_vectors
from tests.vectors.signer import ECDSA_SHA256, RSA_SHA256, Recipe, signed

pytestmark = pytest.mark.live
NAMES = {
    key(name).fingerprint: name
    for name in ("sender-rsa", "sender-p256", "sender-p384", "sender-p521")
}
# xmlsec1 1.2, which Debian 12 has, knows no RSA-PSS.
UNKNOWN_TO_XMLSEC1 = "sha256-rsa-MGF1"


def xmlsec1(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [require("xmlsec1"), *arguments], capture_output=True, check=False, timeout=20
    )


def accepts(raw: bytes, name: str, folder: Path) -> bool:
    """Return whether xmlsec1 verifies ``raw`` with the certificate ``name`` and no other."""
    path = folder / "message.xml"
    path.write_bytes(raw)
    options = ["--id-attr:Id", "urn:fame:envelope:1.0:Envelope", "--enabled-key-data", "key-name"]
    certificate = ["--pubkey-cert-pem", str(KEYS / f"{name}.cert.pem")]
    return xmlsec1("--verify", *options, *certificate, str(path)).returncode == 0


def signer_and_algorithm(raw: bytes) -> tuple[str, str] | None:
    try:
        verified = VERIFIERS["profile"].verify(receive(raw, LIMITS, LAX), SENDER_KEYS, NOW)
    except Rejection:
        return None
    return NAMES[verified.signer], verified.algorithm


def check_agreement(raw: bytes, folder: Path) -> None:
    found = signer_and_algorithm(raw)
    if found is not None and found[1] != UNKNOWN_TO_XMLSEC1:
        assert accepts(raw, found[0], folder), "xmlsec1 refuses what we accept"


@pytest.mark.parametrize("vector", [v for v in all_vectors() if len(v.make()) < 100_000], ids=str)
def test_xmlsec1_accepts_every_vector_that_we_accept(vector: Vector, tmp_path: Path) -> None:
    check_agreement(vector.make(), tmp_path)


@pytest.mark.parametrize("name", sorted(NAMES.values()))
def test_xmlsec1_accepts_what_we_sign(name: str, tmp_path: Path) -> None:
    raw = sign_envelope(build_envelope(HEADER, payload().encode()), signing_key(name))

    assert accepts(raw, name, tmp_path)
    assert not accepts(raw.replace(b">10<", b">11<"), name, tmp_path)


sampled = settings(
    max_examples=120,
    derandomize=True,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
    ],
)


@sampled
@given(raw=changed_bytes())
def test_xmlsec1_accepts_of_changed_bytes_what_we_accept(tmp_path: Path, raw: bytes) -> None:
    check_agreement(raw, tmp_path)


@sampled
@given(raw=changed_elements())
def test_xmlsec1_accepts_of_changed_elements_what_we_accept(tmp_path: Path, raw: bytes) -> None:
    check_agreement(raw, tmp_path)


@sampled
@given(raw=signed_otherwise())
def test_xmlsec1_accepts_of_other_signatures_what_we_accept(tmp_path: Path, raw: bytes) -> None:
    check_agreement(raw, tmp_path)


@pytest.mark.parametrize("uri", ["", "#m1"])
@pytest.mark.parametrize(
    ("name", "method"), [("sender-rsa", RSA_SHA256), ("sender-p256", ECDSA_SHA256)]
)
@pytest.mark.parametrize("verifier", VERIFIERS)
def test_what_xmlsec1_signs_from_a_template_is_accepted(
    name: str, method: str, uri: str, verifier: str, tmp_path: Path
) -> None:
    empty = "<ds:KeyInfo>\n<ds:X509Data/>\n</ds:KeyInfo>"
    recipe = Recipe(name, method, uri=uri, value="", digest_value="", key_info=empty, space="\n ")
    template = tmp_path / "template.xml"
    template.write_text(signed(document(root_id="m1"), recipe))
    output = tmp_path / "signed.xml"

    made = xmlsec1(
        "--sign",
        "--id-attr:Id",
        "urn:fame:envelope:1.0:Envelope",
        "--privkey-pem",
        f"{KEYS / name}.key.pem,{KEYS / name}.cert.pem",
        "--output",
        str(output),
        str(template),
    )

    assert made.returncode == 0, made.stderr
    raw = output.read_bytes()
    assert examined(raw, VERIFIERS[verifier]).verified.signer == key(name).fingerprint
    with pytest.raises(Rejection) as caught:
        examined(raw.replace(b">10<", b">11<"), VERIFIERS[verifier])
    assert caught.value.reason.value == "sender.signature.digest_mismatch"
