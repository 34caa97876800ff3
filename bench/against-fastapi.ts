import { type Berth, benchModule, startBerth } from './berth.ts'
import type { BenchOptions } from './comparison.ts'
import { type FastApi, startFastApi } from './peers/fastapi.ts'
import { inTurns, median } from './statistics.ts'
import { type LoadResult, load, warmUpSeconds } from './wrk.ts'

/** Streams of the no-op module through Berth (orchestrator, runner, worker) and through FastAPI, in turns. */
export interface Streams {
  readonly berth: LoadResult
  /** FastAPI with the plain generator. */
  readonly plain: LoadResult
  /** FastAPI with an async generator around it. */
  readonly async: LoadResult
  /** Requests a second of every round, and processor time a request by process. */
  readonly detail: Readonly<Record<string, unknown>>
}

/** Embedded, so that no container's network is part of the figure, with room for every connection at once. */
export async function startNoop(): Promise<Berth> {
  const berth = await startBerth({ engine: 'process', models: { noop: { module: 'noop', max_simul_users: 64 } } })
  try {
    await berth.addModule('noop', benchModule('noop'))
    await berth.infer('noop', {})
    return berth
  } catch (error) {
    await berth.close()
    throw error
  }
}

export async function measureStreams(chunks: number, { seconds, rounds, say }: BenchOptions): Promise<Streams> {
  const fastApi = await startFastApi(say)
  let berth: Berth | undefined
  try {
    berth = await startNoop()
    return await measure(berth, fastApi, chunks, seconds, rounds)
  } finally {
    await berth?.close()
    await fastApi.stop()
  }
}

async function measure(
  berth: Berth,
  fastApi: FastApi,
  chunks: number,
  seconds: number,
  rounds: number,
): Promise<Streams> {
  const body = { parameters: { n: chunks } }
  const charge = { orchestrator: berth.pid, ...berth.processes() }
  const urls = {
    berth: `${berth.url}/api/models/noop/infer`,
    plain: `${fastApi.url}/plain`,
    async: `${fastApi.url}/async`,
  }
  for (const url of Object.values(urls)) await checkAnswer(url, body, chunks)
  const subjects = {
    berth: (time: number) => load({ url: urls.berth, body, seconds: time, charge }),
    plain: (time: number) => load({ url: urls.plain, body, seconds: time, charge: { uvicorn: fastApi.pid } }),
    async: (time: number) => load({ url: urls.async, body, seconds: time, charge: { uvicorn: fastApi.pid } }),
  }
  for (const measureOne of Object.values(subjects)) await measureOne(warmUpSeconds)
  const results = await inTurns(
    {
      berth: () => subjects.berth(seconds),
      plain: () => subjects.plain(seconds),
      async: () => subjects.async(seconds),
    },
    rounds,
  )
  const { berth: own = [], plain = [], async: best = [] } = results
  return {
    berth: middle(own),
    plain: middle(plain),
    async: middle(best),
    detail: { requestsPerSecond: { berth: rates(own), plain: rates(plain), async: rates(best) } },
  }
}

/** Both sides have to send the same bytes. */
async function checkAnswer(url: string, body: unknown, chunks: number): Promise<void> {
  const answer = await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  })
  const line = '{"chunk":{"response":{"text":"ok"},"warnings":[],"errors":[]}}\n'
  if ((await answer.text()) !== `${line.repeat(chunks)}{"done":true}\n`)
    throw new Error(`${url} answers something else`)
}

function rates(results: readonly LoadResult[]): readonly number[] {
  return results.map((result) => Math.round(result.requestsPerSecond))
}

/** The median of each figure. */
export function middle(results: readonly LoadResult[]): LoadResult {
  const of = (pick: (result: LoadResult) => number) => median(results.map(pick))
  const processes = Object.keys(results[0]?.cpu ?? {})
  return {
    requestsPerSecond: of((result) => result.requestsPerSecond),
    p50: of((result) => result.p50),
    p99: of((result) => result.p99),
    cpu: Object.fromEntries(processes.map((name) => [name, of((result) => result.cpu[name] ?? Number.NaN)])),
  }
}
