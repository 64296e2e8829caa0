"""Every reason the broker gives: its stable code, HTTP status, cause and cure.

A code is added, never renamed and never reused. The part before the first dot says whose
fault it is: ``sender`` (mend the message), ``policy`` (an agreement says no), ``recipient``
(the far system), ``broker`` (ours). Texts hold no value from any message.
"""

from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a person needs to know about a reason. ``retry``: may the same bytes be sent again."""

    status: int
    title: str
    cause: str
    cure: str
    retry: bool = False


class Reason(Enum):
    """A stable code. `explain` gives its words."""

    # -- the bytes (examine) ------------------------------------------------------------
    MEDIA_TYPE = "sender.media_type"
    TOO_LARGE = "sender.too_large"
    TOO_SLOW = "sender.too_slow"
    NOT_XML = "sender.not_xml"
    XML_FORBIDDEN = "sender.xml_forbidden"
    XML_LIMIT = "sender.xml_limit"
    ENVELOPE = "sender.envelope"
    # -- the signature ------------------------------------------------------------------
    SIGNATURE_MISSING = "sender.signature.missing"
    SIGNATURE_PROFILE = "sender.signature.profile"
    SIGNATURE_DIGEST = "sender.signature.digest_mismatch"
    SIGNATURE_INVALID = "sender.signature.invalid"
    SENDER_UNKNOWN = "sender.unknown"
    CERTIFICATE_NOT_VALID = "sender.certificate.not_valid"
    CERTIFICATE_REVOKED = "sender.certificate.revoked"
    CERTIFICATE_WEAK = "sender.certificate.weak"
    PEER_NOT_SENDER = "sender.peer_not_sender"
    SYSTEM_UNKNOWN = "sender.system_unknown"
    # -- time and identity of the message -----------------------------------------------
    STALE = "sender.stale"
    FUTURE = "sender.future"
    EXPIRED = "sender.expired"
    REPLAY = "sender.message_id_reused"
    # -- the payload --------------------------------------------------------------------
    TYPE_UNKNOWN = "sender.type_unknown"
    SCHEMA = "sender.schema"
    IDENTIFIER_INVALID = "sender.identifier_invalid"
    RULE = "sender.rule"
    CONSENT_UNUSABLE = "sender.consent_unusable"
    OVERRIDE_UNUSABLE = "sender.override_unusable"
    # -- who is asking ------------------------------------------------------------------
    UNAUTHENTICATED = "sender.unauthenticated"
    QUOTA_RATE = "sender.quota.rate"
    QUOTA_IN_FLIGHT = "sender.quota.in_flight"
    FORBIDDEN = "sender.forbidden"
    NOT_FOUND = "sender.not_found"
    REQUEST_INVALID = "sender.request_invalid"
    METHOD = "sender.method_not_allowed"
    # -- policy (domain rule book, in the order of the decision procedure) ----------------
    AGENCY_SUSPENDED = "policy.agency_suspended"
    RECIPIENT_UNKNOWN = "policy.recipient_unknown"
    NO_ISP = "policy.no_isp"
    DIRECTION = "policy.direction"
    PURPOSE_NOT_COVERED = "policy.purpose_not_covered"
    TYPE_NOT_COVERED = "policy.type_not_covered"
    ISP_EXPIRED = "policy.isp_expired"
    ISP_SUSPENDED = "policy.isp_suspended"
    ISP_NOT_ACTIVE = "policy.isp_not_active"
    NOT_TAKEN = "policy.not_taken"
    GATEWAY_NOT_EFFECTIVE = "policy.gateway_not_effective"
    GATEWAY_PARTIES = "policy.gateway_parties"
    GATEWAY_CARVEOUT = "policy.gateway_carveout"
    PUBLIC_TASK_NOT_STATED = "policy.public_task_not_stated"
    RECIPIENT_NOT_RELEVANT_AUTHORITY = "policy.recipient_not_relevant_authority"
    PRACTITIONER = "policy.practitioner"
    NO_CONSENT = "policy.no_consent"
    CONSENT_REFUSED = "policy.consent_refused"
    CONSENT_WITHDRAWN = "policy.consent_withdrawn"
    CONSENT_SCOPE = "policy.consent_scope"
    DETRIMENTAL = "policy.detrimental"
    IDENTIFIER_MISSING = "policy.identifier_missing"
    SHIELDED = "policy.shielded"
    INCOMPLETE = "policy.incomplete"
    ALL_REFUSED = "policy.all_refused"
    # -- the far side ---------------------------------------------------------------------
    RECIPIENT_UNREACHABLE = "recipient.unreachable"
    RECIPIENT_REFUSED = "recipient.refused"
    RECIPIENT_ANSWER = "recipient.bad_answer"
    NOT_COLLECTED = "recipient.not_collected"
    ATTEMPTS_EXHAUSTED = "recipient.attempts_exhausted"
    DISCARDED = "recipient.discarded"
    # -- ours -----------------------------------------------------------------------------
    OVERLOADED = "broker.overloaded"
    STORE_UNAVAILABLE = "broker.store_unavailable"
    STORE_FULL = "broker.store_full"
    REGISTER_UNAVAILABLE = "broker.register_unavailable"
    ERASED = "broker.erased"
    CATALOGUE = "broker.catalogue"
    TRANSPORT_UNAVAILABLE = "broker.transport_unavailable"
    TRANSPORT_REFUSED = "broker.transport_refused"
    RECORD_UNREADABLE = "broker.record_unreadable"
    NO_ENCRYPTION_KEY = "broker.no_encryption_key"
    INTERNAL = "broker.internal"


def explain(reason: Reason) -> Explanation:
    """Return the words, HTTP status and retry advice of ``reason``."""
    return _EXPLANATIONS[reason]


_E = Explanation
# One reason a row, whatever its length: it is read as a table.
# fmt: off
_EXPLANATIONS: dict[Reason, Explanation] = {
    Reason.MEDIA_TYPE: _E(415, "The body is not XML", "The Content-Type is not application/xml.", "Send the signed envelope as application/xml, in UTF-8, not compressed."),
    Reason.TOO_LARGE: _E(413, "The message is too large", "The body has more bytes than the broker's limit.", "Send attachments by reference, or split the message; /version names the limit."),
    Reason.TOO_SLOW: _E(408, "The body came too slowly", "After the first seconds it came at less than 100 KB a second; nothing was kept.", "Send the same bytes again over a faster connection.", retry=True),
    Reason.NOT_XML: _E(400, "The body is not well-formed XML", "The parser stopped at the line given.", "Check that the bytes are well-formed XML 1.0 in UTF-8 and were not cut short."),
    Reason.XML_FORBIDDEN: _E(400, "The XML uses a construct that is not allowed", "A document type, entity, comment, processing instruction, schema location or another encoding than UTF-8 was found.", "Remove it before signing: messages hold elements, attributes and text only."),
    Reason.XML_LIMIT: _E(400, "The XML is too complex", "It has more elements or attributes, or is nested deeper, than the limits allow.", "Compare the message with its schema documentation; no valid message comes near the limits."),
    Reason.ENVELOPE: _E(400, "The envelope does not follow its schema", "The outer form (header, payload, one signature) is wrong at the place given.", "Compare with `fame schema docs envelope`; `fame sample make` gives a valid one."),
    Reason.SIGNATURE_MISSING: _E(400, "The envelope is not signed", "There is no XML signature as the last child of the envelope.", "Sign the whole envelope (`fame message sign`) and send exactly the bytes you signed."),
    Reason.SIGNATURE_PROFILE: _E(400, "The signature is not of the accepted profile", "One enveloped signature over the whole envelope is accepted: exclusive canonicalisation, SHA-256 or stronger, RSA or ECDSA.", "Use the profile in `fame schema docs envelope`: one reference, to the whole document."),
    Reason.SIGNATURE_DIGEST: _E(400, "The message was changed after it was signed", "The digest in the signature differs from that of the message; the certificate itself is known.", "Sign last and send the bytes you signed. Re-indenting or re-encoding breaks the signature."),
    Reason.SIGNATURE_INVALID: _E(400, "The signature does not verify", "None of the certificates registered for the sender made this signature.", "Sign with the key whose certificate is registered (`fame agency show`), or register the new one; send exactly the bytes you signed, for re-indenting changes them."),
    Reason.SENDER_UNKNOWN: _E(403, "The sender is not registered", "No agency of that id is registered with this broker.", "Check Sender/AgencyId, or ask the registrar to register the agency."),
    Reason.CERTIFICATE_NOT_VALID: _E(403, "The sender's certificate is not valid now", "The signature was made with a certificate outside its period of validity, or with one that is not meant for signing.", "Renew the certificate and register it; both are good while they overlap."),
    Reason.CERTIFICATE_REVOKED: _E(403, "The sender's certificate was revoked", "The registrar revoked the certificate that made this signature, or took it out of the register while the message waited.", "Sign with a certificate in force; if you did not ask for the revocation, ring the registrar."),
    Reason.CERTIFICATE_WEAK: _E(403, "The sender's key is too weak", "Keys are RSA of 2,048 bits or more, or ECDSA on P-256, P-384 or P-521.", "Register a certificate with a stronger key."),
    Reason.PEER_NOT_SENDER: _E(403, "This system may not speak for the sender", "The connection's identity is not bound to the agency named as sender.", "Send through a system registered for that agency, or correct Sender/AgencyId."),
    Reason.SYSTEM_UNKNOWN: _E(403, "The sending system is not registered for the sender", "Sender/SystemId names no system of that agency.", "Use the id under which the registrar registered the system (`fame agency show`)."),
    Reason.STALE: _E(400, "The message was made too long ago", "CreatedAt is older than the broker's replay window.", "Make a new message with a new MessageId; check the sending system's clock."),
    Reason.FUTURE: _E(400, "The message was made in the future", "CreatedAt is ahead of the broker's clock by more than the allowed skew.", "Set the sending system's clock by NTP and send again."),
    Reason.EXPIRED: _E(400, "The message had expired when it came", "ExpiresAt is in the past.", "Send a new message if the information is still wanted."),
    Reason.REPLAY: _E(409, "Another message was accepted under this id", "The sender used the MessageId before, for other content.", "Never reuse a MessageId. If you did not send the first message, ring the registrar: this may be an attack."),
    Reason.TYPE_UNKNOWN: _E(400, "The message type or version is not known", "The sealed catalogue has no schema for MessageType and SchemaVersion together.", "`fame schema ls` lists what is accepted."),
    Reason.SCHEMA: _E(422, "The payload does not follow its schema", "The schema of this message type is not met at the place given.", "Compare with `fame schema docs`; the value itself is not repeated here on purpose."),
    Reason.IDENTIFIER_INVALID: _E(422, "An identifier fails its check digit", "An NHS number, UPN, ULN or UPRN at the place given is not a possible one.", "Correct it at its source, or leave it out and give the omission reason."),
    Reason.RULE: _E(422, "Two parts of the payload contradict each other", "A rule of the message type beyond its schema is not met at the place given.", "Read the rule in `fame schema docs` and correct the message."),
    Reason.CONSENT_UNUSABLE: _E(422, "Nobody could rely on this record of consent", "Whoever gave it could not give it, it names too little, or its dates contradict each other; the words say which.", "Record what the person said, who spoke for them and in what capacity, and each recipient by its id."),
    Reason.OVERRIDE_UNUSABLE: _E(422, "Nothing may be shared on this decision", "It lacks a reason or power that the law knows, a second practitioner, a named recipient, or the outcome of the detriment test, or it is too old; the words say which.", "Decide anew, two practitioners together, and name the power and each recipient."),
    Reason.UNAUTHENTICATED: _E(401, "Who is calling is not known", "Neither a registered client certificate nor a valid bearer token was given.", "Connect with the registered certificate, or get a token from /oauth/token."),
    Reason.QUOTA_RATE: _E(429, "The agency sends more often than it may", "Its quota of submissions a second is used up; nothing was read or kept.", "Send the same bytes again after Retry-After seconds, and spread bulk work; ask the operator if the quota is too small.", retry=True),
    Reason.QUOTA_IN_FLIGHT: _E(429, "The agency has too many submissions open", "As many of its submissions are in flight as one agency may have; this one was not kept.", "Send the same bytes again after Retry-After seconds, over fewer connections at once.", retry=True),
    Reason.FORBIDDEN: _E(403, "This peer may not do that", "The action belongs to another agency or role.", "Use the credentials of the agency concerned."),
    Reason.NOT_FOUND: _E(404, "Nothing is there for you", "It does not exist, or it is not yours to see; the answer is the same on purpose.", "Check the id and with which agency's credentials you ask."),
    Reason.REQUEST_INVALID: _E(400, "The request is not valid", "A query parameter, header or body field is missing or wrong.", "See /openapi.json."),
    Reason.METHOD: _E(405, "That method is not allowed here", "The path exists but not with this method.", "See the Allow header and /openapi.json."),
    Reason.AGENCY_SUSPENDED: _E(403, "An agency is suspended", "The sender or the recipient is not active in the partnership (procedure step 1).", "Ask the registrar; the suspension has a reason and a contact."),
    Reason.RECIPIENT_UNKNOWN: _E(403, "The recipient is not in the partnership", "No active agency has that id, or none of that type serves that area.", "`fame agency ls` lists the agencies, their types and areas."),
    Reason.NO_ISP: _E(403, "No sharing protocol covers these two agencies", "No protocol lets the sender send anything like this to the recipient (step 3).", "Ask your information sharing officer for a protocol, or share by another lawful route."),
    Reason.DIRECTION: _E(403, "The protocol covers only the other direction", "The recipient may send this to the sender, not the sender to the recipient (step 3).", "Ask the recipient to send, or ask for the protocol to cover both directions."),
    Reason.PURPOSE_NOT_COVERED: _E(403, "The protocol does not cover this purpose", "The agencies share this message type, but for other purposes (step 3).", "If one of the purposes covered is the true one, name it; never name one that is not."),
    Reason.TYPE_NOT_COVERED: _E(403, "The protocol does not cover this message type", "The agencies share other messages or another version for this purpose (step 3).", "Send a type and version that the protocol covers, or ask for it to be added."),
    Reason.ISP_EXPIRED: _E(403, "The sharing protocol is no longer in force", "It has ended, or its review is more than 90 days late (step 3).", "The lead organisation renews or reviews it; `fame protocol show` says whom to ask."),
    Reason.ISP_SUSPENDED: _E(403, "The sharing protocol is suspended", "A party or the lead organisation suspended it (step 3).", "Ask the lead organisation; `fame protocol show` says whom."),
    Reason.ISP_NOT_ACTIVE: _E(403, "The sharing protocol is not in force yet", "It is a draft, lacks a signature, or starts later (step 3).", "Wait for its first day, or chase the signatures."),
    Reason.NOT_TAKEN: _E(403, "The recipient has not taken it", "What is offered first is sent only once its recipient has said yes to this offer; it said nothing, or no (step 3).", "Offer it, wait for the answer, and then send it under the same number."),
    Reason.GATEWAY_NOT_EFFECTIVE: _E(403, "The legal gateway is not in force", "The power or duty relied on is not in force at this moment (step 4).", "Rely on a gateway that is in force; the protocol must name it."),
    Reason.GATEWAY_PARTIES: _E(403, "The legal gateway does not reach these agencies", "The statute lets other kinds of body disclose or receive (step 4).", "Ask the data protection officer which gateway applies."),
    Reason.GATEWAY_CARVEOUT: _E(403, "The legal gateway excludes this information", "The statute carves out this sender or this kind of information (step 4).", "Leave that information out, or rely on a gateway that allows it."),
    Reason.PUBLIC_TASK_NOT_STATED: _E(403, "The public task is not stated", "Whoever is no public body answers because a public task asks, and must be told which (UK GDPR Annex 1 para. 1, step 4).", "Add PublicTaskStatement: the task, and the law it rests on."),
    Reason.RECIPIENT_NOT_RELEVANT_AUTHORITY: _E(403, "The recipient is not a relevant authority", "Crime and Disorder Act 1998 s.115 reaches relevant authorities and those acting for them (step 4).", "Send to the authority the body acts for, or register for whom it acts."),
    Reason.PRACTITIONER: _E(403, "The practitioner's details are not sufficient", "The protocol asks for a named practitioner, a role, a clearance or a reason for access (step 5).", "Complete Sender/Practitioner and ReasonForAccess."),
    Reason.NO_CONSENT: _E(403, "Consent is needed and none is on record", "The clause rests on consent, and the broker holds none that is active (step 6).", "Record the person's consent, or, where the law allows it, use a clause that does not rest on consent."),
    Reason.CONSENT_REFUSED: _E(403, "Consent was refused", "The person said no (step 6).", "Respect it; if there is risk of harm, use the override of the protocol."),
    Reason.CONSENT_WITHDRAWN: _E(403, "Consent was withdrawn", "The person withdrew consent (step 6).", "Respect it; if there is risk of harm, use the override of the protocol."),
    Reason.CONSENT_SCOPE: _E(403, "The consent does not reach this far", "It is for other purposes, information or recipients (step 6).", "Ask the person for consent that names this purpose and recipient."),
    Reason.DETRIMENTAL: _E(403, "The sender judged disclosure more detrimental to the child", "Children Act 2004 s.16LA(3): the duty to share does not apply (step 4).", "Nothing to do: the judgement is recorded. Change the message only if the judgement changes."),
    Reason.IDENTIFIER_MISSING: _E(403, "The child's consistent identifier is missing", "Children Act 2004 s.16LC: give the identifier or the reason for leaving it out (step 7).", "Add the NHS number, or an OmissionReason."),
    Reason.SHIELDED: _E(403, "The record is shielded", "Location must not be disclosed and the message has no meaning without it (step 8).", "Speak to the recipient's index manager."),
    Reason.INCOMPLETE: _E(403, "A mandatory item is missing", "The clause makes an item mandatory that the message does not hold (step 9).", "Add the item named, or correct the agreement."),
    Reason.ALL_REFUSED: _E(403, "No recipient may have this message", "Each recipient was refused, for reasons that differ.", "See the reason and the smallest lawful change for each recipient."),
    Reason.RECIPIENT_UNREACHABLE: _E(502, "The recipient's system could not be reached", "The connection failed or timed out; the broker tries again by itself.", "Nothing to do yet: you are told if it stays so.", retry=True),
    Reason.RECIPIENT_REFUSED: _E(502, "The recipient's system refused the message", "It answered that it will not take the message.", "Speak to the recipient's contact (`fame agency show`)."),
    Reason.RECIPIENT_ANSWER: _E(502, "The recipient's system gave an answer that cannot be used", "A redirect, an oversized answer or another status than agreed.", "The recipient's supplier corrects the endpoint.", retry=True),
    Reason.NOT_COLLECTED: _E(504, "The recipient did not collect the message", "It lay in the mailbox until it expired.", "Ring the recipient; send again if it is still wanted."),
    Reason.ATTEMPTS_EXHAUSTED: _E(502, "Delivery was given up", "Every attempt failed within the time allowed.", "Ring the recipient; an operator can replay the message (`fame dlq`)."),
    Reason.DISCARDED: _E(502, "An operator discarded the delivery", "It was judged undeliverable; the ledger says by whom.", "Ring the broker's operator."),
    Reason.OVERLOADED: _E(503, "The broker is busy", "As many submissions are in flight as the broker takes; this one was not kept.", "Send the same bytes again after Retry-After seconds.", retry=True),
    Reason.STORE_UNAVAILABLE: _E(503, "The broker cannot store messages now", "Its database is locked or not reachable; nothing was kept.", "Send the same bytes again after Retry-After seconds.", retry=True),
    Reason.STORE_FULL: _E(507, "The broker's disk is full", "Nothing was kept.", "Send the same bytes again later; the operator has been alarmed.", retry=True),
    Reason.REGISTER_UNAVAILABLE: _E(503, "The broker cannot read its register", "Agreements or consents could not be consulted, so nothing may pass; nothing was kept.", "Send the same bytes again after Retry-After seconds.", retry=True),
    Reason.ERASED: _E(410, "The message's content was erased", "Its retention period ended, or its erasure was ordered; what was decided about it stays provable.", "Ask the sender whether the information may be sent again."),
    Reason.CATALOGUE: _E(500, "The schemas are not the sealed ones", "A schema file is missing, extra, changed or cannot be compiled, so the broker does not start.", "Restore schemas/ as released, or seal a new unpublished version (`fame schema seal`)."),
    Reason.TRANSPORT_UNAVAILABLE: _E(503, "The transport is not reachable", "The Kafka cluster does not answer, or has too few nodes to keep a record safely; accepted messages wait in the outbox.", "Nothing to do for the sender; the operator looks at the cluster (`fame topics check`).", retry=True),
    Reason.TRANSPORT_REFUSED: _E(500, "The transport refused", "The Kafka cluster does not know the topic, or does not allow this principal to use it.", "The operator compares the cluster with deploy/kafka/topics.toml: `fame topics plan`."),
    Reason.RECORD_UNREADABLE: _E(500, "A record of the transport cannot be used", "A record in the recipient's topic is not one of the broker's, or does not open with the recipient's key; it was set aside.", "The operator finds it by topic, partition and offset, and asks who else can write there; the outbox sends the delivery again."),
    Reason.NO_ENCRYPTION_KEY: _E(500, "The recipient has no key to encrypt to", "Its deliveries travel through Kafka, and none of its registered keys is good now; they wait in the outbox.", "The registrar adds a key to the agency: `fame agency encrypt-to`."),
    Reason.INTERNAL: _E(500, "The broker failed", "A fault of ours; nothing was acknowledged.", "Send the same bytes again; if it happens again, give the operator the trace id.", retry=True),
}
# fmt: on
