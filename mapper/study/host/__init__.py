"""The study measured on the machine at hand, as one file that its owner can share."""
