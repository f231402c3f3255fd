"""The operator's command: reads and writes the ledger through receiver and shared, starts daemons as processes."""
