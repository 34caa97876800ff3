"""What service modules import from their server, written for Berth. Standard library only."""
