"""One log line -> its syslog frame -> the facts in it -> what it means -> which rule counts it. Pure."""

from receiver.lines.classify import Class, Line
from receiver.lines.formats import Fields, parse_message, v1_fields
from receiver.lines.rulebook import Reading, Rulebook
from receiver.lines.syslog import message, without_priority
from receiver.lines.times import line_time, local_time

__all__ = [
    "Class",
    "Fields",
    "Line",
    "Reading",
    "Rulebook",
    "line_time",
    "local_time",
    "message",
    "parse_message",
    "v1_fields",
    "without_priority",
]
