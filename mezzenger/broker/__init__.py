"""The broker: takes what peers send and the time, changes its own state, returns what is to be done."""
