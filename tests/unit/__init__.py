"""What needs no other process but our own children: values, sockets, shared memory."""
