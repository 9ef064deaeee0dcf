"""What the package costs, against its bounds and beside what a user would pick: ``make bench``."""
