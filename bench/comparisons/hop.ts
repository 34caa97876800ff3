import { middle, startNoop } from '../against-fastapi.ts'
import { type Berth, runnerAccess } from '../berth.ts'
import type { BenchOptions, Comparison, Row } from '../comparison.ts'
import { type Nginx, startNginx } from '../peers/nginx.ts'
import { createProbe, type Probe } from '../probe.ts'
import { inTurns, median } from '../statistics.ts'
import { load, warmUpSeconds } from '../wrk.ts'

/** What the orchestrator costs as a hop: against nginx to the same runner, and against the runner itself. */
const probesARound = 300
const runnerBody = { model: 'noop', config: {}, parameters: {} }
const berthBody = { parameters: {} }

export const hop: Comparison = {
  name: 'hop',
  about: 'the orchestrator as a hop, against nginx to the same runner',
  async run(options) {
    const berth = await startNoop()
    let nginx: Nginx | undefined
    try {
      nginx = await startNginx(runnerAccess(berth.processes().runner))
      return [...(await throughput(berth, nginx, options)), ...(await latency(berth, nginx, options))]
    } finally {
      await nginx?.stop()
      await berth.close()
    }
  },
}

async function throughput(berth: Berth, nginx: Nginx, { seconds, rounds }: BenchOptions): Promise<readonly Row[]> {
  const { runner, worker } = berth.processes()
  const own = (time: number) =>
    load({
      url: `${berth.url}/api/models/noop/infer`,
      body: berthBody,
      seconds: time,
      charge: { orchestrator: berth.pid, runner, worker },
    })
  const peer = (time: number) =>
    load({ url: `${nginx.url}/infer`, body: runnerBody, seconds: time, charge: { nginx: nginx.pid, runner, worker } })
  await own(warmUpSeconds)
  await peer(warmUpSeconds)
  const results = await inTurns({ own: () => own(seconds), peer: () => peer(seconds) }, rounds)
  const berthResult = middle(results.own ?? [])
  const nginxResult = middle(results.peer ?? [])
  return [
    {
      what: 'hop to the same runner',
      unit: 'req/s',
      berth: berthResult.requestsPerSecond,
      peer: { name: 'nginx', value: nginxResult.requestsPerSecond },
      target: { of: 'ratio', at: 'least', bound: 0.6 },
      detail: { cpu: { berth: berthResult.cpu, nginx: nginxResult.cpu } },
    },
    {
      what: '  processor time a request, the hop alone',
      unit: 'us',
      berth: berthResult.cpu.orchestrator ?? Number.NaN,
      peer: { name: 'nginx', value: nginxResult.cpu.nginx ?? Number.NaN },
    },
  ]
}

async function latency(berth: Berth, nginx: Nginx, { rounds }: BenchOptions): Promise<readonly Row[]> {
  const { socket, token } = runnerAccess(berth.processes().runner)
  const authorization = `Bearer ${token}`
  const at = (url: string) => ({ host: '127.0.0.1', port: Number(new URL(url).port) })
  const probes = {
    berth: createProbe({ ...at(berth.url), path: '/api/models/noop/infer' }, berthBody),
    nginx: createProbe({ ...at(nginx.url), path: '/infer' }, runnerBody),
    runner: createProbe({ socketPath: socket, path: '/infer', headers: { authorization } }, runnerBody),
  }
  try {
    const results = await inTurns(
      { berth: () => sample(probes.berth), nginx: () => sample(probes.nginx), runner: () => sample(probes.runner) },
      rounds + 1,
    )
    // The first round warms up.
    const of = (name: string, pick: 'firstMs' | 'wholeMs') =>
      median((results[name] ?? []).slice(1).flatMap((round) => round.map((one) => one[pick])))
    const added = (what: string, pick: 'firstMs' | 'wholeMs', bound: number): Row => ({
      what,
      unit: 'ms',
      berth: of('berth', pick),
      peer: { name: 'the runner itself', value: of('runner', pick) },
      target: { of: 'difference', at: 'most', bound },
      detail: { nginx: of('nginx', pick) },
    })
    return [added('p50 on one connection', 'wholeMs', 0.5), added('time to first chunk', 'firstMs', 2)]
  } finally {
    for (const probe of Object.values(probes)) probe.close()
  }
}

async function sample(probe: Probe): Promise<readonly { readonly firstMs: number; readonly wholeMs: number }[]> {
  const results = []
  for (let count = 0; count < probesARound; count += 1) results.push(await probe.once())
  return results
}
