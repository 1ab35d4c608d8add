"""What a user can get wrong."""


class UserError(ValueError):
    """Input that is wrong; the message is one line: what, where, and what would be right."""
