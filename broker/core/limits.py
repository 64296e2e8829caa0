"""Every bound on untrusted input, with its unit and reason. `LIMITS` is the default set."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on one submission.

    Byte and node caps go together: tag-dense XML takes up to 36 times its size in memory,
    so 2 MiB may take 72 MiB while it is examined.
    """

    body_bytes_max: int = 2 * 1024 * 1024
    elements_max: int = 50_000
    attributes_max: int = 50_000
    # Canonical XML sorts the attributes of an element in quadratic time: 50,000 took 6 s.
    attributes_of_element_max: int = 64
    depth_max: int = 64
    recipients_max: int = 64  # the envelope schema says the same
    clock_skew_s: int = 60  # bounded, so that a stolen message cannot be dated ahead
    age_s_max: int = 5 * 24 * 3600  # a sender may be offline over a long weekend
    lifetime_s_default: int = 5 * 24 * 3600  # uncollected after this: the sender is told
    wait_s_max: int = 60


LIMITS = Limits()

# A decision to share without consent is for the danger at hand (domain §5.4): it carries
# messages for a day, and is reviewed within three.
OVERRIDE_S_MAX = 24 * 3600
OVERRIDE_REVIEW_S = 72 * 3600
OVERRIDE_ESCALATE_S = 72 * 3600  # after the deadline of the review the lead is told, too
