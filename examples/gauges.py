"""Send the value of each gauge once; whoever looks later still sees it, see dashboard.py."""

from mezzenger import Mezzenger

with Mezzenger(server_address="127.0.0.1") as mc:
    mc.send_message("gauge.boiler", 71.5)
    mc.send_message("gauge.outside", -3.0)
    mc.send_message("gauge.pressure", 1.4)
    mc.flush()
