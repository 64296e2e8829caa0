"""Ways to reach the systems of agencies. Imports `broker.core` and `broker.ports` only."""
