"""The program that edits the legacy tables through iptc, in a child process of its own: request -> tables -> reply."""
