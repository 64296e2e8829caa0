"""Every route but `POST /messages`: one module for each kind of caller."""
