"""A small case system, as an agency might run it: a sample to read and to start from.

A process of its own, with its own keys and its own SQLite file. It proves who sent what it
is given, does everything once however often it is told, and signs everything it says.

    settings.py   who we are, and whom we know
    trust.py      whose signature is on this: the request, the envelope
    records.py    our own tables: cases, what came, what is to be sent
    answers.py    from a message to our answer
    system.py     receive, send, poll
    __main__.py   command line and HTTPS server

Of the broker it uses `broker.core` only: to read, verify, make and sign envelopes. In another
language an XML signature library takes that place.
"""
