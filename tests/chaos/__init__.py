"""Random faults over a whole site: seed -> schedule -> a site under traffic -> healed, and all counts must add up."""
