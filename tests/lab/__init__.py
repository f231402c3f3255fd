"""A small Pexip site in network namespaces, with real nginx, Redis, receiver and enforcers.

    attacker, bystander --(outside)--> rp1 .. rpN: nginx, enforcer --(inside)--> core: node stand-in, Redis, receiver

Nothing here knows how pinban decides: the lab starts processes, sends requests and reads the results.
"""
