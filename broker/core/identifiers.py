"""Check digits of the identifiers that messages carry; each function takes any text.

Sources: NHS Data Dictionary (NHS number), DfE guide to unique pupil numbers, Learning
Records Service (unique learner number), GeoPlace (UPRN), HMRC manual NIM39110 (National
Insurance number). Written out here because they run on every message; the tests hold them
against python-stdnum.
"""

import re
from operator import mul

_NHS_NUMBER = re.compile(r"[0-9]{10}")
_ULN = re.compile(r"[1-9][0-9]{9}")
_UPRN = re.compile(r"[1-9][0-9]{0,11}")
_UPN_LETTERS = "ABCDEFGHJKLMNPQRTUVWXYZ"  # no I, O or S
_UPN = re.compile(f"[{_UPN_LETTERS}][0-9]{{11}}[0-9{_UPN_LETTERS}]")
_UPN_VALUES = {c: i for i, c in enumerate(_UPN_LETTERS)} | {c: int(c) for c in "0123456789"}
_NINO = re.compile(r"(?!BG|GB|NK|KN|TN|NT|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z][0-9]{6}[A-D]")

_MODULUS = 11
_FROM_TEN = range(10, 0, -1)


def nhs_number_valid(text: str) -> bool:
    """Ten digits; weighted 10 down to 1, the last being the check digit, they sum to 0 mod 11."""
    if not _NHS_NUMBER.fullmatch(text):
        return False
    # A check digit of ten cannot be written, so no number whose sum asks for it fits.
    return _weighted(text) % _MODULUS == 0


def upn_valid(text: str) -> bool:
    """A check letter, eleven digits, and a digit, or a letter in a temporary number.

    The letter counts by its place among the check letters.
    """
    if not _UPN.fullmatch(text):
        return False
    total = sum(_UPN_VALUES[c] * weight for weight, c in enumerate(text[1:], start=2))
    return _UPN_LETTERS[total % len(_UPN_LETTERS)] == text[0]


def uln_valid(text: str) -> bool:
    """Ten digits, the first not zero; weighted 10 down to 1 they sum to 10 mod 11."""
    if not _ULN.fullmatch(text):
        return False
    return _weighted(text) % _MODULUS == _MODULUS - 1


def _weighted(ten_digits: str) -> int:
    # The weights sum to 55, a multiple of 11, so it makes no difference modulo 11 that each
    # digit is taken as its character code, which is greater by the same number for all.
    return sum(map(mul, ten_digits.encode(), _FROM_TEN))


def uprn_valid(text: str) -> bool:
    """A number from 1 to 999999999999 without leading zeros; UPRNs have no check digit."""
    return _UPRN.fullmatch(text) is not None


def nino_valid(text: str) -> bool:
    """Two letters of which HMRC issues the pair, six digits and a letter from A to D."""
    return _NINO.fullmatch(text) is not None
