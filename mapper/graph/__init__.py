"""The costed graph: ops, tensors, FLOP and bytes, made from a program."""
