import { measureStreams } from '../against-fastapi.ts'
import type { Comparison } from '../comparison.ts'
import type { LoadResult } from '../wrk.ts'

/** Small streams: one chunk each, 16 connections. */
export const requests: Comparison = {
  name: 'requests',
  about: 'no-op streams of one chunk against FastAPI on uvicorn',
  async run(options) {
    const { berth, plain, async, detail } = await measureStreams(1, options)
    const peer = (name: string, value: number) => ({ name, value })
    return [
      {
        what: 'no-op stream, 1 chunk',
        unit: 'req/s',
        berth: berth.requestsPerSecond,
        peer: peer('FastAPI', plain.requestsPerSecond),
        target: { of: 'ratio', at: 'least', bound: 5 },
        detail,
      },
      {
        what: 'no-op stream, 1 chunk',
        unit: 'req/s',
        berth: berth.requestsPerSecond,
        peer: peer('FastAPI, async generator', async.requestsPerSecond),
        target: { of: 'ratio', at: 'least', bound: 2 },
      },
      { what: '  p50', unit: 'ms', berth: berth.p50, peer: peer('FastAPI', plain.p50) },
      {
        what: '  p99',
        unit: 'ms',
        berth: berth.p99,
        peer: peer('FastAPI', plain.p99),
        target: { of: 'ratio', at: 'most', bound: 1 },
      },
      { what: '  p99', unit: 'ms', berth: berth.p99, peer: peer('FastAPI, async generator', async.p99) },
      {
        what: '  processor time a request',
        unit: 'us',
        berth: total(berth),
        peer: peer('FastAPI', total(plain)),
        detail: { berth: berth.cpu, plain: plain.cpu },
      },
      {
        what: '  processor time a request',
        unit: 'us',
        berth: total(berth),
        peer: peer('FastAPI, async generator', total(async)),
      },
    ]
  },
}

function total({ cpu }: LoadResult): number {
  return Object.values(cpu).reduce((sum, one) => sum + one, 0)
}
