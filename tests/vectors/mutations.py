"""Small changes to signed documents, drawn by hypothesis: of bytes, of elements, of recipes."""

from hypothesis import strategies as st
from lxml import etree

from tests.vectors.documents import document, payload
from tests.vectors.genuine import vectors
from tests.vectors.signer import (
    DSIG,
    ECDSA_SHA256,
    ENVELOPED,
    EXACT_TRANSFORMS,
    EXCLUSIVE,
    MORE,
    RSA_SHA256,
    SHA256,
    SHA512,
    Recipe,
    algorithm,
    key_info,
    signed,
)

BASES = [vector.make() for vector in vectors()]
SNIPPETS = (
    b" |\n|\t|&#13;|&#65;|&amp;|A|=|\xc2\xa0|\xef\xbb\xbf|\x00|<!---->|<?x?>|<![CDATA[]]>"
    b"|<![CDATA[A]]>|<x xmlns='urn:x'/>|<ds:Object/>| Id='m1'| xmlns:ds='urn:x'| xmlns='urn:x'"
    b"| xml:lang='en'| Algorithm='x'|ds:|<|>"
).split(b"|")


@st.composite
def changed_bytes(draw: st.DrawFn) -> bytes:
    """Flip, delete, double, move or insert a few bytes of a genuine message."""
    raw = draw(st.sampled_from(BASES))
    for _ in range(draw(st.integers(1, 2))):
        at = draw(st.integers(0, len(raw) - 1))
        length = draw(st.sampled_from((1, 2, 5, 40, 400)))
        part = raw[at : at + length]
        rest = raw[:at] + raw[at + length :]
        to = draw(st.integers(0, max(0, len(rest) - 1)))
        raw = draw(
            st.sampled_from(
                (
                    raw[:at] + bytes([raw[at] ^ (1 << (length % 8))]) + raw[at + 1 :],
                    rest,
                    raw[:at] + part + raw[at:],
                    rest[:to] + part + rest[to:],
                    raw[:at] + draw(st.sampled_from(SNIPPETS)) + raw[at:],
                )
            )
        )
        raw = raw or b" "
    return raw


@st.composite
def changed_elements(draw: st.DrawFn) -> bytes:
    """Remove, double, move or rename an element, or change its text or attributes."""
    root = etree.fromstring(draw(st.sampled_from(BASES)))
    for _ in range(draw(st.integers(1, 2))):
        elements = list(root.iter("*"))
        element = draw(st.sampled_from(elements))
        other = draw(st.sampled_from(elements))
        _change(root, element, other, draw)
    return etree.tostring(root, encoding="utf-8")


def _change(
    root: etree._Element, element: etree._Element, other: etree._Element, draw: st.DrawFn
) -> None:
    parent = element.getparent()
    inside = element in (other, *other.iterancestors())
    action = draw(
        st.sampled_from(("remove", "copy", "move", "text", "tail", "attribute", "rename"))
    )
    if action == "text":
        element.text = draw(st.sampled_from((None, "", " ", "A", "x&<", "\r\n"))) or None
    elif action == "tail" and parent is not None:
        element.tail = draw(st.sampled_from((None, " ", "A", "\n  ")))
    elif action == "attribute":
        name = draw(st.sampled_from(("Id", "ID", "id", "URI", "Algorithm", "{urn:x}Id", "version")))
        element.set(name, draw(st.sampled_from(("m1", "", "#m1", "1.0", EXCLUSIVE, SHA256))))
    elif action == "rename":
        element.tag = other.tag
    elif parent is not None and action == "remove":
        parent.remove(element)
    elif parent is not None and not inside:
        place = draw(st.integers(0, len(other)))
        copied = etree.fromstring(etree.tostring(element, with_tail=False))
        other.insert(place, element if action == "move" else copied)


def _maybe(
    strategy: st.SearchStrategy[str | None], usual: str | None
) -> st.SearchStrategy[str | None]:
    """Return mostly what is usual, so that several draws often leave one thing odd."""
    return st.one_of(st.just(usual), st.just(usual), st.just(usual), strategy)


@st.composite
def signed_otherwise(draw: st.DrawFn) -> bytes:
    """A sender who signs in earnest, with a key that is registered, but not quite the profile."""
    root_id = draw(st.sampled_from(("", "m1")))
    content = payload(
        extra=str(draw(_maybe(st.sampled_from((" ", "\r\n", "&lt;", "<x/>", "\u00e9")), ""))),
        attributes=str(
            draw(
                _maybe(
                    st.sampled_from((' Id="m1"', ' ID="m1"', ' xml:lang="en"', ' xmlns:u="urn:u"')),
                    "",
                )
            )
        ),
    )
    key, method = draw(
        st.sampled_from(
            (
                ("sender-rsa", RSA_SHA256),
                ("sender-p256", ECDSA_SHA256),
                ("sender-p384", ECDSA_SHA256),
            )
        )
    )
    transform = [
        algorithm("Transform", name) for name in (ENVELOPED, EXCLUSIVE, f"{EXCLUSIVE}WithComments")
    ]
    with_list = algorithm(
        "Transform",
        EXCLUSIVE,
        f'<ec:InclusiveNamespaces xmlns:ec="{EXCLUSIVE}" PrefixList="m"></ec:InclusiveNamespaces>',
    )
    odd_transforms = st.lists(st.sampled_from([*transform, with_list]), max_size=3).map("".join)
    recipe = Recipe(
        key=key,
        method=str(draw(_maybe(st.sampled_from((f"{MORE}rsa-sha512", f"{DSIG}rsa-sha1")), method))),
        c14n=str(draw(_maybe(st.sampled_from((f"{EXCLUSIVE}WithComments", "urn:x")), EXCLUSIVE))),
        uri=draw(
            _maybe(
                st.sampled_from(("", "#m1", "##m1", "#m2", "/etc/hostname", None)),
                f"#{root_id}" if root_id else "",
            )
        ),
        reference_attributes=str(draw(_maybe(st.sampled_from((' Id="r"', ' Type="urn:x"')), ""))),
        transforms=draw(_maybe(odd_transforms, EXACT_TRANSFORMS)),
        digest_method=draw(st.sampled_from((SHA256, SHA512))),
        references=draw(st.sampled_from((1, 1, 1, 1, 0, 2))),
        space=draw(st.sampled_from(("", "\n  ", "\t", "&#xD;\n"))),
        key_info=draw(
            _maybe(
                st.sampled_from(
                    ("<ds:KeyInfo><ds:KeyName>a b</ds:KeyName></ds:KeyInfo>", key_info("other-rsa"))
                ),
                "",
            )
        ),
        extra=str(draw(_maybe(st.sampled_from(("<ds:Object></ds:Object>", " ", "A")), ""))),
        prefix=draw(st.sampled_from(("ds", "", "dsig", "m2"))),
    )
    try:
        return signed(document(content, root_id=root_id), recipe).encode()
    except (KeyError, ValueError, StopIteration):
        return b"<r/>"  # the recipe asks for a signature that this key cannot make
