"""The HTTP side: guard, routes, live streams and the accept loop. It decides nothing about jobs."""
