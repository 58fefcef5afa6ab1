"""Greet somebody every three seconds: the publisher of the quick start."""

import random
import time

from mezzenger import Mezzenger

mc = Mezzenger(server_address="127.0.0.1", auto_start=False)
people = ["John", "David", "Lucy"]
while True:
    mc.send_message("greetings", "Hello %s!" % random.choice(people))  # noqa: UP031  # as it always was
    time.sleep(3)
