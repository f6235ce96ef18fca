"""The door between hosts: one TLS port of the main machine, and each joined host's passage to it."""
