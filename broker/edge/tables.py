"""The relational schema, once, for SQLite and PostgreSQL. Instants are milliseconds since 1970 UTC.

Nothing here names a person: `subject_ref` is a keyed hash, bodies are ciphertext. A row of
`message` and its decisions, deliveries and ledger entries are written in one transaction.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)

metadata = MetaData()

message = Table(
    "message",
    metadata,
    Column("id", String(36), primary_key=True),  # submission id, UUIDv7
    Column("sender", String(64), nullable=False),
    Column("message_id", String(36), nullable=False),  # the sender's
    Column("digest", LargeBinary(32), nullable=False),  # SHA-256 of the signed canonical bytes
    Column("message_type", String(64), nullable=False),
    Column("schema_version", String(16), nullable=False),
    Column("purpose", String(32), nullable=False),
    Column("system", String(64), nullable=False),
    Column("correlation_id", String(36)),
    Column("conversation_id", String(36)),
    Column("priority", String(16), nullable=False),
    Column("subject_ref", String(64)),
    Column("created_at", BigInteger, nullable=False),
    Column("received_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("respond_by", BigInteger),
    Column("trace_id", String(32), nullable=False),
    Column("size", Integer, nullable=False),
    Column("kek_id", String(64), nullable=False),
    Column("wrapped_key", LargeBinary),  # null once erased: no body can then be read by anybody
    Column("receipt", LargeBinary, nullable=False),  # the signed XML receipt, as first given
    Column("ledger_seq", BigInteger, nullable=False),
    # The sender's id first: a batch is looked up by these ids alone, in one statement.
    UniqueConstraint("message_id", "sender", name="message_once"),
    Index(
        "message_correlation",
        "correlation_id",
        sqlite_where=text("correlation_id IS NOT NULL"),
        postgresql_where=text("correlation_id IS NOT NULL"),
    ),
    Index(
        "message_readable",
        "received_at",
        sqlite_where=text("wrapped_key IS NOT NULL"),
        postgresql_where=text("wrapped_key IS NOT NULL"),
    ),
)

decision = Table(
    "decision",
    metadata,
    Column("message", String(36), ForeignKey("message.id"), primary_key=True),
    Column("recipient", String(64), primary_key=True),
    Column("permitted", Boolean, nullable=False),
    Column("reason", String(64)),  # code, when refused
    Column("step", Integer),
    Column("change", Text),  # smallest lawful change, when refused
    Column("protocol", String(80)),
    Column("protocol_version", Integer),
    Column("clause", String(80)),
    Column("gateway", String(32)),
    Column("withheld", Text, nullable=False),  # JSON list of paths
    Column("register_digest", String(64), nullable=False),
    Column("facts", Text),  # what it was made from, as codes; null once the payload is erased
    sqlite_with_rowid=False,  # the key is the table: one tree to write instead of two
)

delivery = Table(
    "delivery",
    metadata,
    Column("id", String(36), primary_key=True),  # stable: the idempotency key of its effect
    Column("message", String(36), ForeignKey("message.id"), nullable=False),
    Column("recipient", String(64), nullable=False),
    Column("order_key", String(64), nullable=False),  # subject_ref, or the message id
    Column("position", BigInteger, nullable=False),  # the message's ledger_seq: order within a key
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    # Attempts after which the recipient may have it, though nobody says so; those under way, too.
    Column("in_doubt", Integer, server_default=text("0"), nullable=False),
    Column("next_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("lease_until", BigInteger),
    Column("lease_owner", String(64)),
    Column("reduced", Boolean, server_default=false(), nullable=False),  # shown less than was sent
    Column("level", String(2), nullable=False),
    Column("reason", String(64)),
    Column("delivered_at", BigInteger),
    Column("read_at", BigInteger),
    Column("closed_at", BigInteger),
    UniqueConstraint("message", "recipient", name="delivery_once"),
    Index("delivery_due", "recipient", "state", "next_at"),
    Index("delivery_state", "state", "next_at"),
    # Two that hold only what is open, so that they stay small whatever is stored: what has
    # expired, and whether an earlier one of the same key is waiting.
    Index(
        "delivery_overdue",
        "expires_at",
        sqlite_where=text("closed_at IS NULL"),
        postgresql_where=text("closed_at IS NULL"),
    ),
    Index(
        "delivery_key",
        "order_key",
        "recipient",
        "position",
        sqlite_where=text("state = 'pending'"),
        postgresql_where=text("state = 'pending'"),
    ),
)

# The bytes themselves, all under the message's key: what was sent, and what each recipient is
# shown if that is less. They go when their time is over, and everything else stays. On
# PostgreSQL each month is a partition (`partitions`): ids are in the order of time.
AS_SENT = ""
sealed_body = Table(
    "sealed_body",
    metadata,
    Column("message", String(36), ForeignKey("message.id"), primary_key=True),
    Column("recipient", String(64), primary_key=True),  # or AS_SENT
    Column("sealed", LargeBinary, nullable=False),  # AES-256-GCM: 12-byte nonce, ciphertext, tag
    postgresql_partition_by="RANGE (message)",
)

evidence = Table(
    "evidence",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("message", String(36), ForeignKey("message.id"), nullable=False),
    Column("recipient", String(64), nullable=False),
    Column("level", String(16), nullable=False),  # L2, L3, L4, or how it ended
    Column("at", BigInteger, nullable=False),
    Column("document", LargeBinary, nullable=False),  # signed XML
    Column("ledger_seq", BigInteger, nullable=False),
    UniqueConstraint("message", "recipient", "level", name="evidence_once"),
)

ledger = Table(
    "ledger",
    metadata,
    Column(
        "seq",
        BigInteger().with_variant(Integer, "sqlite"),  # there, the row's own number
        primary_key=True,
        autoincrement=False,
    ),
    Column("leaf", LargeBinary(32), nullable=False),  # RFC 6962 leaf hash
    Column("entry", LargeBinary, nullable=False),  # RFC 8785 canonical JSON
)

used_token = Table(
    "used_token",
    metadata,
    Column("issuer", String(128), primary_key=True),
    Column("jti", String(128), primary_key=True),
    Column("expires_at", BigInteger, nullable=False),
    Index("used_token_expiry", "expires_at"),
    sqlite_with_rowid=False,
)

# What people said of sharing about them. A row is a version and is never changed or deleted.
consent = Table(
    "consent",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("subject_ref", String(64), nullable=False),
    Column("kind", String(24), nullable=False),
    Column("status", String(16), nullable=False),
    Column("purposes", Text, nullable=False),  # JSON list of codes, as are the next two
    Column("message_types", Text, nullable=False),
    Column("recipients", Text, nullable=False),
    Column("form", String(24), nullable=False),
    Column("given_at", BigInteger, nullable=False),
    Column("given_by", String(16), nullable=False),
    Column("capacity", String(24), nullable=False),
    Column("assessment", Text),  # JSON: assessor's role, instant, factors
    Column("wording", String(64), nullable=False),
    Column("document", String(64)),
    Column("recorded_by", String(64), nullable=False),
    Column("recorded_at", BigInteger, nullable=False),
    Column("review_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Column("supersedes", String(36)),
    Column("ledger_seq", BigInteger, nullable=False),
    Column("categories", Text),  # JSON list of codes; null: all
    Column("support", String(64)),
    Column("withdrawn_by", String(16)),
    Column("withdrawn_at", BigInteger),
    Index("consent_subject", "subject_ref"),
    Index("consent_agency", "recorded_by", "id"),
)

# Decisions to share without consent, what passed by them, and their reviews. Rows stay as they are.
override = Table(
    "disclosure_override",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("subject_ref", String(64), nullable=False),
    Column("agency", String(64), nullable=False),
    Column("reason", String(32), nullable=False),
    Column("gateway", String(32), nullable=False),
    Column("purposes", Text, nullable=False),  # JSON list of codes, as are the next two
    Column("message_types", Text, nullable=False),
    Column("recipients", Text, nullable=False),
    Column("decided_by", String(32), nullable=False),  # keyed hash, as is the next
    Column("approved_by", String(32), nullable=False),
    Column("made_at", BigInteger, nullable=False),
    Column("recorded_at", BigInteger, nullable=False),
    Column("until", BigInteger, nullable=False),
    Column("review_by", BigInteger, nullable=False),
    Column("ledger_seq", BigInteger, nullable=False),
    Column("message", String(36)),  # that says it; null: kept before its review had a clock
    Index("override_agency", "agency", "recorded_at"),
)

override_use = Table(
    "override_use",
    metadata,
    Column("override", String(36), ForeignKey("disclosure_override.id"), primary_key=True),
    Column("message", String(36), ForeignKey("message.id"), primary_key=True),
    Column("recipient", String(64), primary_key=True),
    sqlite_with_rowid=False,
)

override_review = Table(
    "override_review",
    metadata,
    Column("override", String(36), ForeignKey("disclosure_override.id"), primary_key=True),
    Column("outcome", String(32), nullable=False),
    Column("reviewer", String(32), nullable=False),  # keyed hash
    Column("at", BigInteger, nullable=False),
    Column("ledger_seq", BigInteger, nullable=False),
)

# Which decisions rested on which consents: whom to tell when one is withdrawn.
reliance = Table(
    "reliance",
    metadata,
    Column("consent", String(36), primary_key=True),
    Column("message", String(36), ForeignKey("message.id"), primary_key=True),
    Column("recipient", String(64), primary_key=True),
    sqlite_with_rowid=False,
)

# What was answered to offers, by whom and to whom: what is then sent follows a yes.
handover = Table(
    "handover",
    metadata,
    Column("message", String(36), ForeignKey("message.id"), primary_key=True),
    Column("recipient", String(64), primary_key=True),
    Column("sender", String(64), nullable=False),
    Column("subject_ref", String(64), nullable=False),
    Column("follows", String(64), nullable=False),  # the message type that a yes lets pass
    Column("number", String(64), nullable=False),  # SHA-256 of the number of the offer
    Column("taken", Boolean, nullable=False),
    Column("shield", Boolean, nullable=False),  # it is set at the one who answered
    Column("ledger_seq", BigInteger, nullable=False),
    Index("handover_number", "number", "recipient"),
    sqlite_with_rowid=False,
)

paused_route = Table(
    "paused_route",
    metadata,
    Column("recipient", String(64), primary_key=True),
    Column("paused_at", BigInteger, nullable=False),
    Column("paused_by", String(128), nullable=False),
)

quarantine = Table(  # records of a topic that cannot be used: where they stand, and a code
    "quarantine",
    metadata,
    Column("topic", String(249), primary_key=True),
    Column("partition", Integer, primary_key=True, autoincrement=False),
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    Column("recipient", String(64), nullable=False),
    Column("code", String(64), nullable=False),
    Column("found_at", BigInteger, nullable=False),
)

# Clocks that run on messages. What became of them is in the ledger; they can be made from it.
clock = Table(
    "clock",
    metadata,
    Column("message", String(36), ForeignKey("message.id"), primary_key=True),
    Column("recipient", String(64), primary_key=True),
    Column("clock", String(64), primary_key=True),
    Column("sender", String(64), nullable=False),
    Column("message_id", String(36), nullable=False),  # the sender's: an answer names it
    Column("protocol", String(80), nullable=False),  # id@version
    Column("clause", String(80), nullable=False),
    Column("stops", Text, nullable=False),  # JSON list: levels and message types
    Column("state", String(16), nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("due_from", BigInteger, nullable=False),
    Column("overdue_from", BigInteger, nullable=False),
    Column("escalated_from", BigInteger),
    Column("next_at", BigInteger),  # when it goes on by itself; null: never again
    Column("stopped_at", BigInteger),
    Column("stopped_by", String(64)),
    Index("clock_answered", "message_id", "sender"),
    Index(
        "clock_next",
        "next_at",
        sqlite_where=text("next_at IS NOT NULL"),
        postgresql_where=text("next_at IS NOT NULL"),
    ),
    sqlite_with_rowid=False,
)

# Which entries of the ledger remember how far the policy log had come: the last one holds.
policy_head = Table(
    "policy_head",
    metadata,
    Column(
        "ledger_seq",
        BigInteger().with_variant(Integer, "sqlite"),
        primary_key=True,
        autoincrement=False,
    ),
)

# How far the clocks have read in the ledger: one row, moved only from where it is.
clock_reader = Table(
    "clock_reader",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("place", BigInteger, nullable=False),
)

# Drafts beside what is in force, and what they would have made of real messages: codes and
# counts. A submission is named as an example; nothing here says whom it was about.
shadow = Table(
    "shadow",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("protocol", String(80), nullable=False),  # id@version of the draft
    Column("draft", Text, nullable=False),  # the file, as it stood at the start
    Column("digest", String(64), nullable=False),  # of the agreement in it
    Column("started_at", BigInteger, nullable=False),
    Column("ended_at", BigInteger),
    Column("ended", String(16)),  # promoted or dropped
)

shadow_finding = Table(
    "shadow_finding",
    metadata,
    Column("shadow", String(36), ForeignKey("shadow.id"), primary_key=True),
    Column("day", Integer, primary_key=True, autoincrement=False),  # since 1970, in UTC
    Column("key", String(64), primary_key=True),  # digest of what follows, to "path"
    Column("found", String(24), nullable=False),
    Column("sender", String(64), nullable=False),
    Column("recipient", String(64), nullable=False),
    Column("message_type", String(64), nullable=False),
    Column("purpose", String(32), nullable=False),
    Column("live_reason", String(64), nullable=False),  # empty: permitted
    Column("live_protocol", String(80), nullable=False),
    Column("live_clause", String(80), nullable=False),
    Column("draft_reason", String(64), nullable=False),
    Column("draft_protocol", String(80), nullable=False),
    Column("draft_clause", String(80), nullable=False),
    Column("path", Text, nullable=False),  # empty: the decision itself
    Column("count", BigInteger, nullable=False),
    Column("first_message", String(36)),
    Column("last_message", String(36)),
    sqlite_with_rowid=False,
)
