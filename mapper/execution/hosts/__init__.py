"""Hosts: a plan over several machines, each with its part of it, under torch.distributed's elastic launcher."""
