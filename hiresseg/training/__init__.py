"""How the bundled networks come to be: crops, losses, one loop."""
