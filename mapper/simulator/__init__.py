"""The simulator: a plan on the machine it was made for, item by item, without the machine."""
