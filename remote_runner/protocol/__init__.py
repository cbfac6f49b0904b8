"""The wire protocol as pure functions and tables: no sockets, no clock, no trio."""
