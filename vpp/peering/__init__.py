"""Room peering: who our peers are, what we tell those below us, and what was said. Import from here only."""
