"""Thousands of hostile requests through real nginx: what the node did, compared with what the receiver understood.

    generator -> wire --(HTTP/0.9 .. 2)--> fronts of nginx --> two nodes --(records)--------------------> comparison
                                             '-----(pinban, pexapp, appliance: datagrams)--> rulebook -'

The node's verdict is the truth, by its own reading of the request (tests/lab/node_answers.py shares no code with the
receiver), and the client is whoever the generator let ask. A front is a server of nginx as some operator configures it.
nginx gives every request its $request_id, which no client can choose: the node gets it as a header, the pinban line has
it, and before the lines of the text formats nginx sends a key line with it. One worker on one processor sends all over
loopback UDP, so the text lines of a request are between its key and the next, or are lost.
"""
