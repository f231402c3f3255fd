"""Syslog datagrams in -> spool -> class -> count in Redis -> ban. The only writer of counters."""
