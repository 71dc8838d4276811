"""A Linux kernel of its own in a virtual machine: what the machine under test can't be."""
