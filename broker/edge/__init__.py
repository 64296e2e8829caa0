"""Everything that touches a socket, a disk or the clock. No rules."""
