"""What all tasks share: their arguments, what they remember between tries, their outcomes."""
