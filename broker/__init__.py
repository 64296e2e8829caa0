"""The FAME broker: multi-agency information sharing by enforced agreement."""

__version__ = "0.1.0"
