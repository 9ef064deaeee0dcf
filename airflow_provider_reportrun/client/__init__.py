"""How the API is reached: what a connection says, and how requests are sent over it."""
