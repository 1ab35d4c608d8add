"""Exit statuses of the program; 0 is done."""

WRONG_INPUT, FAILED, INTERRUPTED = 2, 1, 130
