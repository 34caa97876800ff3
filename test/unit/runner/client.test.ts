import { createServer } from 'node:net'
import { describe, expect, it } from 'vitest'
import { BerthError } from '../../../orchestrator/domain/errors.ts'
import { createRunnerClient } from '../../../orchestrator/runner/client.ts'
import { bodyOf, scriptedRunner } from './scripted-runner.ts'

const never = () => new AbortController().signal
const health = { protocol: 1, state: 'ready', models: ['m'], inflight: 0 }

describe('questions to a runner', () => {
  it.each(['tcp', 'unix'] as const)('go over %s, with the token', async (over) => {
    const seen: unknown[] = []
    const { client } = await scriptedRunner(
      async (request, response) => {
        const body = await bodyOf(request)
        seen.push([request.method, request.url, request.headers.authorization, body])
        const answers: Record<string, unknown> = {
          '/health': health,
          '/load': { loaded: ['m'] },
          '/offload': { offloaded: [] },
        }
        response.end(JSON.stringify(answers[request.url ?? '']))
      },
      { over },
    )
    expect(await client.health(never())).toEqual({ state: 'ready', models: ['m'] })
    expect(await client.load({ m: { size: 1 } }, never())).toEqual(['m'])
    expect(await client.offload(['m'], never())).toEqual([])
    expect(seen).toEqual([
      ['GET', '/health', 'Bearer secret', ''],
      ['POST', '/load', 'Bearer secret', '{"models":{"m":{"size":1}}}'],
      ['POST', '/offload', 'Bearer secret', '{"models":["m"]}'],
    ])
  })

  it('keep numbers as they were written', async () => {
    let body = ''
    const { client } = await scriptedRunner(async (request, response) => {
      body = await bodyOf(request)
      response.end('{"loaded":["m"]}')
    })
    await client.load(
      {
        m: { temperature: JSON.parse('1'), raw: (JSON as unknown as { rawJSON(text: string): never }).rawJSON('1.0') },
      },
      never(),
    )
    expect(body).toBe('{"models":{"m":{"temperature":1,"raw":1.0}}}')
  })

  it("carry the module's own error, with its code when the table has it", async () => {
    const answer = { status: 502, body: {} }
    const { client } = await scriptedRunner((_request, response) => {
      response.writeHead(answer.status).end(JSON.stringify(answer.body))
    })
    answer.body = { error: { code: 'OUT_OF_MEMORY', message: 'CUDA out of memory', details: { traceback: 'line 3' } } }
    await expect(client.load({}, never())).rejects.toMatchObject({
      code: 'OUT_OF_MEMORY',
      message: 'CUDA out of memory',
      origin: 'module',
      details: { module: 'mod', traceback: 'line 3' },
    })
    answer.body = { error: { code: 'NO_SUCH_CODE', message: 'hm' } }
    await expect(client.load({}, never())).rejects.toMatchObject({ code: 'LOAD_FAILED', message: 'hm' })
  })

  it('that a server of another kind answers are a clear error', async () => {
    let answer: [number, string] = [200, '']
    const { client } = await scriptedRunner((_request, response) => {
      response.writeHead(answer[0]).end(answer[1])
    })
    for (const each of [
      [200, '<html>'],
      [200, '{"protocol":2}'],
      [404, 'Not Found'],
      [404, '{"detail":"Not Found"}'],
      [401, ''],
    ] as const) {
      answer = [...each]
      await expect(client.health(never()), each.join()).rejects.toMatchObject({
        code: 'RUNNER_PROTOCOL',
        details: { module: 'mod' },
      })
    }
    // Something in front of a server that boots: not an answer yet, and no reason to give up.
    answer = [503, 'Service Unavailable']
    await expect(client.health(never())).rejects.toMatchObject({ code: 'LOAD_FAILED' })
  })

  it('report the failure that a runner states', async () => {
    const { client } = await scriptedRunner((_request, response) => {
      response.end(
        JSON.stringify({
          ...health,
          state: 'failed',
          models: [],
          error: { code: 'LOAD_FAILED', message: 'SyntaxError' },
        }),
      )
    })
    const { state, error } = await client.health(never())
    expect(state).toBe('failed')
    expect(error).toMatchObject({ code: 'LOAD_FAILED', message: 'SyntaxError', origin: 'module' })
  })

  it('that nobody answers are RUNNER_UNREACHABLE', async () => {
    const unused = createServer()
    const port = await new Promise<number>((resolve) => {
      unused.listen(0, '127.0.0.1', () => resolve((unused.address() as { port: number }).port))
    })
    await new Promise((resolve) => unused.close(resolve))
    const client = createRunnerClient({
      module: 'mod',
      endpoint: { kind: 'tcp', host: '127.0.0.1', port },
      token: '',
      foreign: false,
    })
    await expect(client.health(never())).rejects.toMatchObject({ code: 'RUNNER_UNREACHABLE', retryable: true })
    client.close()
    await expect(client.health(never())).rejects.toMatchObject({ code: 'RUNNER_UNREACHABLE' })
    const gone = createRunnerClient({
      module: 'mod',
      endpoint: { kind: 'unix', path: '/nowhere/x.sock' },
      token: '',
      foreign: false,
    })
    await expect(gone.load({}, never())).rejects.toMatchObject({ code: 'RUNNER_UNREACHABLE' })
    gone.close()
  })

  it('end with their signal, for the reason that it has', async () => {
    const { client, sockets } = await scriptedRunner(() => {})
    const controller = new AbortController()
    const load = client.load({}, controller.signal)
    controller.abort(new BerthError('LOAD_TIMEOUT', 'too long'))
    await expect(load).rejects.toMatchObject({ code: 'LOAD_TIMEOUT' })
    expect(sockets.size).toBeLessThanOrEqual(1)
  })

  it('end when the connection breaks', async () => {
    const { client } = await scriptedRunner((request) => void request.socket.destroy())
    await expect(client.load({}, never())).rejects.toMatchObject({ code: 'RUNNER_UNREACHABLE' })
  })

  it('are not answered without end', async () => {
    const { client } = await scriptedRunner((_request, response) => {
      const more = () => {
        while (response.write(Buffer.alloc(1024 * 1024, 32)));
      }
      response.on('drain', more)
      more()
    })
    await expect(client.health(never())).rejects.toMatchObject({ code: 'RUNNER_PROTOCOL' })
  })
})
