"""Syslog datagrams in -> spool -> class -> count in Redis -> ban. Only the receiver counts;
`pinban unban` and `pinban allow` delete counts.
"""
