"""Named places at which a test has the process killed, as a power cut would.

    K1  TLS handshake done        K7  decision made               K13 produced, no answer yet
    K2  body partly read          K8  minimised                   K14 produced, not marked
    K3  parsed                    K9  before the commit           K15 consumed, not delivered
    K4  signature verified        K10 committed, no receipt yet   K16 delivered, not recorded
    K5  age checked               K11 receipt partly sent         K17 recorded, not acknowledged
    K6  payload validated         K12 delivery claimed

``FAME_CRASH=K9:3`` kills the process with SIGKILL when it passes K9 for the third time.
Without that variable, which is read once, passing costs one comparison.
"""

import os
import signal

POINTS = frozenset(f"K{number}" for number in range(1, 18))


class CrashPlan:
    """Which point kills the process, and at which of its passes."""

    def __init__(self, text: str) -> None:
        self.point, _, nth = text.partition(":")
        if self.point and self.point not in POINTS:
            raise ValueError("FAME_CRASH names no known point; write K1:1 to K17:1")
        self._left = int(nth or 1)
        if self._left < 1:
            raise ValueError("FAME_CRASH counts from 1")

    def reached(self, name: str) -> bool:
        """Count one pass of ``name``; say whether it is the fatal one."""
        if name != self.point:
            return False
        self._left -= 1
        return self._left == 0


_plan = CrashPlan(os.environ.get("FAME_CRASH", ""))


def crash_point(name: str) -> None:
    """Kill this process if the plan says that here is where it dies."""
    if _plan.reached(name):
        os.kill(os.getpid(), signal.SIGKILL)
