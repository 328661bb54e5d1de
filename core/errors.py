"""The error that every command prints as one line."""


class UserError(Exception):
    """Bad input. The message is one line that names the file or flag, the value, and what was allowed."""
