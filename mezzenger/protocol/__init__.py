"""What both ends speak: commands, frames and the client's side of the session. Pure: no sockets, no clock."""
