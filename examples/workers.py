"""Jobs that are shared out among workers; the orders of one customer stay in order. Run it with several members."""

import queue

from mezzenger import Message, Mezzenger

done: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()


def work(payload: str, msg_obj: Message[str]) -> None:
    """Do a job; the ack goes out when this returns, and what a worker that died had not done another one does."""
    done.put((msg_obj.headers["customer"], payload))


with Mezzenger(server_address="127.0.0.1") as mc:
    mc.subscribe("jobs", work, group="workers", prefetch=1, order_by="customer")
    for job in ("bake", "pack", "ship"):
        for customer in ("ann", "bob"):
            mc.send_message("jobs", job, ack=1, headers={"customer": customer})

    jobs = [done.get(timeout=10) for _ in range(6)]
    for customer in ("ann", "bob"):
        print(customer, *(job for who, job in jobs if who == customer))

    # The group stays, and collects what is sent while no worker is there.
    mc.unsubscribe("jobs", group="workers")
    mc.send_message("jobs", "bill", ack=1, headers={"customer": "ann"})
    for group in mc.groups.list():
        print(f"{group.group} of {group.name}: {group.members} members, {group.pending} waiting")
    print("dropped:", mc.groups.drop("jobs", "workers"))
