"""What a user can get wrong."""


class UserError(ValueError):
    """Input that is wrong; the message is one line: what, where, and what would be right."""


class ProcessLost(RuntimeError):
    """Another process of a run on several has ended: what they compute together cannot be computed any more."""

    speaks = True  # of the processes that are left, the one that says and keeps what there is
