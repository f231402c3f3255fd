"""The program that edits the legacy tables through iptc, in a child process: request -> tables -> reply."""
