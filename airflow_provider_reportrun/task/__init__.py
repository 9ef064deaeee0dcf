"""What all tasks share: their arguments, what they remember, how errors leave them."""
