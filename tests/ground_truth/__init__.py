"""Thousands of hostile requests through real nginx: what the node did, compared with what the receiver understood.

    generator -> wire --(HTTP/0.9 .. 2)--> nginx --> two nodes --(records)------------> comparison
                                             '-----(pinban, pexapp: datagrams)--> classifier -'

The node's verdict is the truth, by its own reading of the request (tests/lab/node_answers.py shares no code with the
receiver). nginx gives every request its $request_id, which no client can choose: the node gets it as a header, the
pinban line has it, and before each pexapp line nginx sends a key line with it. One worker on one processor sends both
over loopback UDP, so the pexapp line of a request is the datagram after its key, or is lost.
"""
