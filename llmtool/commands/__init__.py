"""What each command does, callable from Python by the same names; mirrors cli/."""
