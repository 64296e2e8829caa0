"""Hostile XML around a genuine, signed envelope: what a parser may do, and must not."""

import gzip
from collections.abc import Callable

from tests.vectors.documents import FORGED, Vector, document, payload
from tests.vectors.signer import signed

FORBIDDEN, NOT_XML = "sender.xml_forbidden", "sender.not_xml"
LIMIT, TOO_LARGE = "sender.xml_limit", "sender.too_large"
ENVELOPE, DIGEST = "sender.envelope", "sender.signature.digest_mismatch"
CANARY_FILE = "/etc/hostname"
CANARY_URL = "http://127.0.0.1:18099/canary"
_SIGNED = signed(document())
_XSI = "http://www.w3.org/2001/XMLSchema-instance"
_XINCLUDE = "http://www.w3.org/2001/XInclude"
Made = str | bytes | Callable[[], bytes]


def _doctype(subset: str = "", external: str = "") -> str:
    internal = f" [{subset}]" if subset else ""
    return f"<!DOCTYPE m:Envelope{external}{internal}>"


def _with(text: str, document_type: str = "") -> str:
    """Return the envelope with ``text`` where the genuine version number was."""
    return document_type + _SIGNED.replace(">10<", f">{text}<")


def _laughs(levels: int, last: str = "lol") -> str:
    entities = [f'<!ENTITY l0 "{last}">']
    entities += [f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, levels + 1)]
    return _doctype("".join(entities))


def _parameter_bomb() -> str:
    entities = ['<!ENTITY % p0 "x">']
    entities += [f'<!ENTITY % p{n} "{f"&#37;p{n - 1};" * 10}">' for n in range(1, 9)]
    return _doctype("".join(entities) + "%p8;")


def _quadratic(length: int, times: int) -> str:
    return _with("&a;" * times, _doctype(f'<!ENTITY a "{"A" * length}">'))


def _document_types() -> dict[str, tuple[Made, str]]:
    file, url = f"file://{CANARY_FILE}", CANARY_URL
    texts = {
        "internal_entity": _with("&a;", _doctype('<!ENTITY a "10">')),
        "doctype_only": _doctype() + _SIGNED,
        "billion_laughs": _with("&l9;", _laughs(9)),
        "billion_laughs_attr": _laughs(9) + _SIGNED.replace('version="1.0"', 'version="&l9;"', 1),
        "billion_laughs_small7": _with("&l7;", _laughs(7)),
        "quadratic_100k_x_2000": _quadratic(100_000, 2_000),
        "quadratic_50k_x_100": _quadratic(50_000, 100),
        "param_entity_bomb": _parameter_bomb() + _SIGNED,
        "recursive_entity": _with("&a;", _doctype('<!ENTITY a "&b;"><!ENTITY b "&a;">')),
        "xxe_file": _with("&x;", _doctype(f'<!ENTITY x SYSTEM "{file}">')),
        "xxe_file_relative": _with("&x;", _doctype('<!ENTITY x SYSTEM "pyproject.toml">')),
        "xxe_http": _with("&x;", _doctype(f'<!ENTITY x SYSTEM "{url}">')),
        "xxe_param_oob": _doctype(
            f'<!ENTITY % f SYSTEM "{file}"><!ENTITY % d SYSTEM "{url}"> %d; %send;'
        )
        + _SIGNED,
        "xxe_local_dtd": _with("&d;", _doctype(f'<!ENTITY % d SYSTEM "{file}"> %d; ')),
        "dtd_retrieval_http": _doctype(external=f' SYSTEM "{url}"') + _SIGNED,
        "dtd_retrieval_file": _with("&d;", _doctype(external=f' SYSTEM "{file}"')),
        "dtd_default_attr_file": _doctype(external=f' SYSTEM "{file}"') + _SIGNED,
        "dtd_internal_default_attr": _doctype('<!ATTLIST m:Envelope Id CDATA "m1">') + _SIGNED,
        "doctype_behind_declaration": '<?xml version="1.0"?>' + _doctype() + _SIGNED,
        "doctype_lower_case": "<!doctype m:Envelope>" + _SIGNED,
        "doctype_behind_cdata_look_alike": f"<!--<![CDATA[-->{_doctype()}{_SIGNED}<!--]]>-->",
    }
    return {name: (text, FORBIDDEN) for name, text in texts.items()}


def _inert() -> dict[str, tuple[Made, str]]:
    include = f'<xi:include xmlns:xi="{_XINCLUDE}" parse="text" href="file://{CANARY_FILE}"/>'
    location = f' xmlns:xsi="{_XSI}" xsi:noNamespaceSchemaLocation="{CANARY_URL}"'
    hidden = location.replace("XMLSchema-instance", "XMLSchema&#45;instance")
    return {
        "xinclude_file": (_with(include), DIGEST),
        "xinclude_file_signed": (signed(document(payload(include))), "sender.schema"),
        "xml_base": (
            _SIGNED.replace("<VacancyClosed ", '<VacancyClosed xml:base="file:///etc/" '),
            DIGEST,
        ),
        "xml_base_signed": (
            signed(document(payload(attributes=' xml:base="file:///etc/"'))),
            "sender.schema",
        ),
        "schemaLocation_http": (
            _SIGNED.replace("<m:Envelope", f"<m:Envelope{location}"),
            FORBIDDEN,
        ),
        "schemaLocation_http_signed": (
            signed(document().replace("<m:Envelope", f"<m:Envelope{location}")),
            FORBIDDEN,
        ),
        "schemaLocation_namespace_by_reference": (
            _SIGNED.replace("<m:Envelope", f"<m:Envelope{hidden}"),
            FORBIDDEN,
        ),
        "schemaLocation_in_payload_signed": (
            signed(document(payload(attributes=location.replace("noNamespaceS", "s")))),
            FORBIDDEN,
        ),
        "pi_stylesheet": (f'<?xml-stylesheet href="{CANARY_URL}"?>{_SIGNED}', FORBIDDEN),
        "pi_catalog": (f'<?oasis-xml-catalog catalog="{CANARY_URL}"?>{_SIGNED}', FORBIDDEN),
        "pi_behind_root": (f"{_SIGNED}<?late?>", FORBIDDEN),
        "pi_in_payload": (_with("10<?x?>"), FORBIDDEN),
        "comment_before_root": (f"<!-- -->{_SIGNED}", FORBIDDEN),
        "comment_behind_root": (f"{_SIGNED}<!-- -->", FORBIDDEN),
        "comment_in_sender": (
            _SIGNED.replace("sunderland-csc", "sunderland<!---->-csc"),
            FORBIDDEN,
        ),
        "comment_in_digest_value": (
            _SIGNED.replace("<ds:DigestValue>", "<ds:DigestValue><!--QUJD-->"),
            FORBIDDEN,
        ),
        "comment_signed_and_kept": (
            signed(document().replace("<m:Payload>", "<m:Payload><!-- -->")),
            FORBIDDEN,
        ),
    }


def _encodings() -> dict[str, tuple[Made, str]]:
    def declared(name: str, text: str = _SIGNED) -> str:
        return f'<?xml version="1.0" encoding="{name}"?>{text}'

    utf7_type = _doctype('<!ENTITY x "10">')
    return {
        "utf16_plain": (declared("UTF-16").encode("utf-16"), FORBIDDEN),
        "utf16_without_mark": (_SIGNED.encode("utf-16-le"), FORBIDDEN),
        "utf16_big_endian": (_SIGNED.encode("utf-16-be"), FORBIDDEN),
        "utf32_plain": (declared("UTF-32").encode("utf-32"), FORBIDDEN),
        "utf16_xxe": (
            declared("UTF-16", _with("&x;", _doctype(f'<!ENTITY x SYSTEM "{CANARY_URL}">'))).encode(
                "utf-16"
            ),
            FORBIDDEN,
        ),
        "utf7_decl": (declared("UTF-7").encode() + b"", FORBIDDEN),
        "utf7_entity": (
            declared("UTF-7", "").encode() + (utf7_type + _with("&x;")).encode("utf-7"),
            FORBIDDEN,
        ),
        "utf7_undeclared": ((utf7_type + _SIGNED).replace("<", "+ADw-").encode(), NOT_XML),
        "java_escapes": (
            declared("JAVA", "").encode() + (utf7_type + _SIGNED).replace("<", "\\u003c").encode(),
            FORBIDDEN,
        ),
        "ebcdic": (declared("CP037").encode("cp037"), NOT_XML),
        "enc_mismatch_utf8decl_utf16body": (declared("UTF-8").encode("utf-16-le"), FORBIDDEN),
        "latin1_declared": (declared("ISO-8859-1").encode("latin-1"), FORBIDDEN),
        "latin1_undeclared": (_SIGNED.replace("City", "Cit\xe9").encode("latin-1"), NOT_XML),
        "iso2022kr_switch": (declared("ISO-2022-KR"), FORBIDDEN),
        "invalid_utf8": (_with("10").encode().replace(b">10<", b">1\xff\xfe\xfa0<"), NOT_XML),
        "overlong_utf8_lt": (
            _SIGNED.encode().replace(b">10<", b">\xc0\xbcscript\xc0\xbe<"),
            NOT_XML,
        ),
        "nul_byte": (_with("1\x000"), NOT_XML),
        "gzip_bytes": (gzip.compress(_SIGNED.encode(), compresslevel=0, mtime=0), NOT_XML),
        "xml11_decl": ('<?xml version="1.1"?>' + _SIGNED, FORBIDDEN),
        "leading_ws_decl": (' <?xml version="1.0"?>' + _SIGNED, FORBIDDEN),
        "declaration_unfinished": ('<?xml version="1.0"' + _SIGNED, FORBIDDEN),
    }


def _malformed() -> dict[str, tuple[Made, str]]:
    twice = ' Id="a" Id="b"'
    return {
        "empty": (b"", NOT_XML),
        "white_space_only": (b" \n", NOT_XML),
        "cut_short": (_SIGNED[:-5], NOT_XML),
        "trailing_garbage": (_SIGNED + "AAA", NOT_XML),
        "two_roots": (_SIGNED + _SIGNED, NOT_XML),
        "dup_attr": (_SIGNED.replace("<m:Envelope", f"<m:Envelope{twice}"), NOT_XML),
        "dup_id": (
            _SIGNED.replace("<VacancyClosed", '<VacancyClosed xml:id="a"').replace(
                "<Version", '<Version xml:id="a"'
            ),
            NOT_XML,
        ),
        "unbound_prefix": (_SIGNED.replace("<Version>10</Version>", "<x:Version/>"), NOT_XML),
        "undefined_entity": (_with("&nbsp;"), NOT_XML),
        "forbidden_character": (_with("&#x1;"), NOT_XML),
        "other_root": (b"<r>ok</r>", ENVELOPE),
        "other_version": (_SIGNED.replace("envelope:1.0", "envelope:2.0").encode(), ENVELOPE),
    }


def _sized() -> dict[str, tuple[Made, str]]:
    def of(head: str, unit: str, times: int, tail: str = "") -> Callable[[], bytes]:
        return lambda: _with(head + unit * times + tail).encode()

    return {
        "deep_60": (of("", "<a>", 60, "</a>" * 60), DIGEST),
        "deep_200": (of("", "<a>", 200, "</a>" * 200), LIMIT),
        "deep_2000": (of("", "<a>", 2_000, "</a>" * 2_000), NOT_XML),
        "deep_200k": (of("", "<a>", 200_000, "</a>" * 200_000), LIMIT),
        "deep_5m": (of("", "<a>", 5_000_000, "</a>" * 5_000_000), TOO_LARGE),
        "huge_attr_11MB": (of('<a b="', "x", 11_000_000, '"/>'), TOO_LARGE),
        "huge_attr_2MB": (of('<a b="', "x", 2_000_000, '"/>'), DIGEST),
        "huge_text_11MB": (of("", "x", 11_000_000), TOO_LARGE),
        "huge_text_2MB": (of("", "x", 2_000_000), DIGEST),
        "huge_name_60k": (of("<", "a", 60_000, "/>"), NOT_XML),
        "attrs_100k": (
            lambda: _with("<a " + "".join(f'a{n}="" ' for n in range(100_000)) + "/>").encode(),
            LIMIT,
        ),
        "attrs_49k_of_one_element": (
            lambda: _with("<a " + "".join(f'a{n:05}="" ' for n in range(49_000)) + "/>").encode(),
            LIMIT,
        ),
        "cdata_never_closed": (of("", "<![CDATA[", 200_000), NOT_XML),
        "namespaces_in_scope": (
            lambda: _with(
                "".join(
                    "<a " + " ".join(f'xmlns:n{d}_{n}="u:{d}:{n}"' for n in range(60)) + ">"
                    for d in range(55)
                )
                + ("<a " + " ".join(f'n0_{n}:b=""' for n in range(60)) + "/>") * 700
                + "</a>" * 55
            ).encode(),
            DIGEST,
        ),
        "attrs_in_cdata": (of("<![CDATA[", ' a=""', 60_000, "]]>"), DIGEST),
        "elements_in_cdata": (of("<![CDATA[", "<a/>", 60_000, "]]>"), DIGEST),
        "ns_100k": (
            lambda: _with(
                "<a " + "".join(f'xmlns:a{n}="u:{n}" ' for n in range(100_000)) + "/>"
            ).encode(),
            TOO_LARGE,
        ),
        "ns_60k": (
            lambda: _with(
                "<a " + "".join(f'xmlns:a{n}="u:{n}" ' for n in range(60_000)) + "/>"
            ).encode(),
            LIMIT,
        ),
        "siblings_3M": (of("", "<a/>", 3_000_000), TOO_LARGE),
        "siblings_450k": (of("", "<a/>", 450_000), LIMIT),
        "siblings_49k": (of("", "<a/>", 49_000), DIGEST),
        "comments_1M": (of("", "<!---->", 1_000_000), TOO_LARGE),
        "comments_250k": (of("", "<!---->", 250_000), FORBIDDEN),
        "references_300k": (of("", "&#65;", 300_000), DIGEST),
    }


def vectors() -> list[Vector]:
    """Return the pack; nothing in it is accepted but ``plain``."""
    groups = (_document_types(), _inert(), _encodings(), _malformed(), _sized())
    made = [_vector("plain", _SIGNED, None), _vector("tampered", _with(FORGED), DIGEST)]
    for group in groups:
        made += [_vector(name, text, code) for name, (text, code) in group.items()]
    return made


def _vector(name: str, text: Made, code: str | None) -> Vector:
    if callable(text):
        return Vector("parser", name, text, code)
    raw = text if isinstance(text, bytes) else text.encode()
    return Vector("parser", name, lambda: raw, code)
