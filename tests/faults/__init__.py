"""Every row of the fault matrix, injected for real: the fault, what must hold, and what must be visible."""
