import { measureStreams } from '../against-fastapi.ts'
import type { Comparison } from '../comparison.ts'

/** Streams as language models send them: many small chunks. */
const chunksPerStream = 100

export const chunks: Comparison = {
  name: 'chunks',
  about: 'streams of 100 chunks against FastAPI on uvicorn',
  async run(options) {
    const { berth, plain, async, detail } = await measureStreams(chunksPerStream, options)
    const rate = (requestsPerSecond: number) => requestsPerSecond * chunksPerStream
    return [
      {
        what: 'stream of 100 chunks',
        unit: 'chunks/s',
        berth: rate(berth.requestsPerSecond),
        peer: { name: 'FastAPI', value: rate(plain.requestsPerSecond) },
        target: { of: 'ratio', at: 'least', bound: 8 },
        detail: { ...detail, cpu: berth.cpu },
      },
      {
        what: 'stream of 100 chunks',
        unit: 'chunks/s',
        berth: rate(berth.requestsPerSecond),
        peer: { name: 'FastAPI, async generator', value: rate(async.requestsPerSecond) },
        target: { of: 'ratio', at: 'least', bound: 1.7 },
      },
    ]
  },
}
