"""The operator's verbs: ask the ledger and the nodes, change the ledger. Plain values, no terminal."""

from pinban.deployment.acl import file_of, hashes_of, users
from pinban.deployment.operator import Operator

__all__ = [
    "Operator",
    "file_of",
    "hashes_of",
    "users",
]
