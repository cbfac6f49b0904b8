"""What people are told of agents: as workers, and as the cause why a job waits."""

import trio

from queued_runner.agents.agent import Agent
from queued_runner.cli.tables import print_table, workers_table
from queued_runner.explain import Situation, explain
from queued_runner.http.render import render_worker
from queued_runner.jobs import Limits


async def test_a_drained_agent_is_as_busy_as_what_it_runs(bench, autojump_clock, capsys):
    agent = Agent("id-1", "boot-1", name="ours", slots=8)
    async with bench.server() as agents:
        bench.add()
        await agents.pull(agent)
        agents.drain(agent.worker_id)
        shown = [render_worker(worker) for worker in agents.workers()]
        assert (shown[0]["free"], shown[0]["state"]) == (0, "draining")
        print_table(workers_table(shown))
        assert capsys.readouterr().out.splitlines()[1].split()[:3] == ["ours", "draining", "1/8"]


async def test_why_a_job_with_secrets_waits_beside_an_agent(bench, autojump_clock):
    async with bench.server() as agents:
        job_id = bench.add(mask=["hunter2"])
        assert await agents.pull(Agent("id-1", "boot-1")) is None
        situation = Situation(trio.current_time(), True, agents.workers(), Limits())
        told = explain(bench.job(job_id), situation, [])
        assert "one that pulls over HTTP cannot" in told.reason
        assert "without `--pull`" in told.reason
        assert [fit.why for fit in told.workers] == ["it cannot hide secrets"]
