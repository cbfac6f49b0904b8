"""Makes the faults of a scenario happen, at their time or right at their moment."""

from functools import partial

import trio

from tests.sim import actors


class Faults:
    """The faults of one run."""

    def __init__(self, world):
        self._world = world
        self._armed = []
        self._nursery = None

    async def run(self, nursery):
        """Arm each fault at its time."""
        self._nursery = nursery
        for fault in self._world.scenario.faults:
            await trio.sleep_until(fault.at)
            if fault.moment is None:
                self._strike(fault)
            else:
                self._armed.append([fault, fault.count])

    def stop(self):
        self._armed.clear()

    def on_moment(self, moment):
        for armed in self._armed:
            if armed[0].moment == moment:
                armed[1] -= 1
                if not armed[1]:
                    self._armed.remove(armed)
                    self._strike(armed[0])
                    return

    def _strike(self, fault):
        """At once: what the fault does at the end of its time is a task, and not of the actor whose
        moment this is."""
        token = actors.current.set(self._world.actor)
        try:
            self._do(fault)
        finally:
            actors.current.reset(token)

    def _do(self, fault):
        world = self._world
        world.history.add(trio.current_time(), "faults", str(fault))
        kind = fault.kind
        if kind.startswith("server"):
            for life in self._struck(fault):
                self._strike_server(fault, life)
        elif kind == "database away":
            for life in self._struck(fault):
                world.cut_off.add(life.name)
                self._later(fault, partial(world.cut_off.discard, life.name))
        elif kind == "stand still":
            for life in self._struck(fault):
                life.actor.stand_still()
                self._later(fault, life.actor.go_on)
        elif kind.startswith("worker"):
            self._strike_worker(fault)
        elif kind == "full disk":
            disk = world.workers[fault.target].disk
            disk.is_full = True
            self._later(fault, partial(setattr, disk, "is_full", False))
        elif kind == "clock set":
            world.clock_error += {"close": 300.0, "reset": -300.0, "vanish": -2.0}[fault.how]
        elif kind == "slow disk":
            world.disk_pause = 3.0
            self._later(fault, self._restore_disk)
        else:
            self._strike_link(fault)

    def _later(self, fault, act):
        async def wait_and_act():
            await trio.sleep(fault.seconds)
            act()

        self._nursery.start_soon(wait_and_act)

    def _restore_disk(self):
        self._world.disk_pause = self._world.scenario.slow_disk

    def _struck(self, fault):
        """The servers that it is about."""
        lives = list(self._world.servers.values())
        return [life for life in lives if fault.server in ("", life.name)]

    def _strike_server(self, fault, server):
        world = self._world
        if not server.is_up or server.is_stopping:
            return
        if fault.kind == "server gone":
            if not any(life.is_gone for life in world.servers.values()):
                server.is_gone = True
                server.crash("vanish")
            return
        if fault.kind in ("server stop", "server drain"):
            server.stop(drains=fault.kind == "server drain")
        else:
            power_cut = fault.kind == "server power cut"
            server.crash("vanish" if power_cut else fault.how)
            if power_cut:
                world.files.cut_power({server.name})
        self._nursery.start_soon(self._restart_server, server, fault.seconds)

    async def _restart_server(self, server, seconds):
        await server.over.wait()
        await trio.sleep(seconds)
        self._world.start_server(server.name)

    def _strike_worker(self, fault):
        life = self._world.workers[fault.target]
        if not life.actor.is_on or life.is_leaving:
            return
        if life.actor.is_still and fault.kind not in ("worker crash", "worker gone"):
            return
        if fault.kind == "worker drain":
            life.drain()
        elif fault.kind == "worker stop":
            life.is_leaving = True
            self._nursery.start_soon(life.stop)
        elif fault.kind == "worker still":
            life.actor.stand_still()
            self._nursery.start_soon(life.machine.reap, life.actor)
            self._later(fault, life.actor.go_on)
            return
        elif fault.kind == "worker gone":
            if self._is_needed(life):
                return
            life.is_gone = True
            life.crash("vanish")
            return
        else:
            life.crash(fault.how)
        self._nursery.start_soon(self._restart_worker, life, fault.seconds)

    def _is_needed(self, life):
        """Whether some job could run nowhere else."""
        others = [w for w in self._world.workers.values() if w is not life and not w.is_gone]
        return bool(life.plan.labels) or not others

    async def _restart_worker(self, life, seconds):
        await life.over.wait()
        await trio.sleep(seconds)
        self._world.start_worker(life.plan)

    def _strike_link(self, fault):
        for name in self._world.servers:
            if fault.server in ("", name):
                self._strike_one_link(fault, self._world.network.link(fault.target, name))

    def _strike_one_link(self, fault, link):
        if fault.kind in ("reset", "go dark", "half open"):
            for connection in link.current_connections():
                if fault.kind == "reset":
                    connection.reset()
                elif fault.kind == "go dark":
                    connection.go_dark()
                else:
                    connection.half_open("up" if fault.how == "close" else "down")
            return
        if fault.kind == "hold":
            link.hold("up", "down")
        elif fault.kind == "hold one way":
            link.hold("up" if fault.how == "close" else "down")
        else:
            link.is_slow = True
        self._later(fault, link.release)
