"""Syslog datagrams in -> journal -> class -> count in Redis -> ban. The only writer of counters."""
