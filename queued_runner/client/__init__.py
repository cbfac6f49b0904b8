"""The client of the HTTP API: find a server, talk to it, follow what runs there.

It needs no event loop and imports nothing of the server, so that a verb of the command line starts
at once.
"""
