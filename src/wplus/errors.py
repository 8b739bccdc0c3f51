"""The one exception that stands for a mistake of the user."""


class UserError(ValueError):
    """Bad input from outside: one sentence with the offending value and what is allowed.

    The command lines print it without a stack trace and exit with a non-zero status.
    """
