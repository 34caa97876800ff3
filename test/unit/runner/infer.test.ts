import { randomBytes } from 'node:crypto'
import type { ServerResponse } from 'node:http'
import { describe, expect, it, vi } from 'vitest'
import { BerthError } from '../../../orchestrator/domain/errors.ts'
import { eventually } from '../../support/eventually.ts'
import { bodyOf, chunk, done, infer, ndjson, scriptedRunner } from './scripted-runner.ts'

/** A runner whose answer is in the test's hand. */
async function heldRunner(options: Parameters<typeof scriptedRunner>[1] = {}) {
  const answers: ServerResponse[] = []
  const runner = await scriptedRunner((_request, response) => void answers.push(response), options)
  const first = async () => {
    await eventually(() => expect(answers.length).toBeGreaterThan(0))
    return answers[0] as ServerResponse
  }
  return { ...runner, answers, first }
}

describe('an inference on a runner', () => {
  it.each(['tcp', 'unix'] as const)('has its bytes handed on untouched over %s', async (over) => {
    const lines = [
      chunk('one'),
      chunk('zwei ünd 三'),
      ...Array.from({ length: 200 }, () => chunk(randomBytes(2_000).toString('base64'))),
      done,
    ]
    let seen: unknown
    const { client } = await scriptedRunner(
      async (request, response) => {
        const { authorization, 'x-request-id': id, 'content-type': type } = request.headers
        seen = { method: request.method, url: request.url, authorization, id, type, body: await bodyOf(request) }
        response.writeHead(200, ndjson)
        response.end(lines.join(''))
      },
      { over },
    )
    const collected = infer(client)
    expect(await collected.over).toEqual({ kind: 'done' })
    expect(collected.text()).toBe(lines.join(''))
    expect(collected.ends).toBe(1)
    expect(seen).toEqual({
      method: 'POST',
      url: '/infer',
      authorization: 'Bearer secret',
      id: 'request-1',
      type: 'application/json',
      body: '{"model":"m","config":{},"parameters":{}}',
    })
  })

  it('hands on each chunk as it comes', async () => {
    const { client, first } = await heldRunner()
    const collected = infer(client)
    const response = await first()
    response.writeHead(200, ndjson)
    response.write(chunk('one'))
    await eventually(() => expect(collected.text()).toBe(chunk('one')))
    response.write(chunk('two').slice(0, 10))
    await eventually(() => expect(collected.text()).toBe(chunk('one') + chunk('two').slice(0, 10)))
    response.end(chunk('two').slice(10) + done)
    expect(await collected.over).toEqual({ kind: 'done' })
  })

  it('that ends with an error frame says so', async () => {
    const error = '{"error":{"code":"OUT_OF_MEMORY","message":"no","retryable":false,"origin":"module"}}\n'
    const { client } = await scriptedRunner((_request, response) => {
      response.writeHead(200, ndjson).end(chunk('one') + error)
    })
    const collected = infer(client)
    expect(await collected.over).toEqual({ kind: 'error', code: 'OUT_OF_MEMORY' })
    expect(collected.text()).toBe(chunk('one') + error)
  })

  it('stops its reader, and so the module, while nobody takes its bytes', async () => {
    const { client, first } = await heldRunner()
    const collected = infer(client)
    collected.takes = false
    const response = await first()
    response.writeHead(200, ndjson)
    const piece = chunk('x'.repeat(64 * 1024))
    let written = 0
    const write = () => {
      for (;;) {
        written += piece.length
        if (!response.write(piece)) return
      }
    }
    response.on('drain', write)
    write()
    // The server's writes fill what lies between and then stay blocked, however long one waits.
    const blocked = async () => {
      let before = -1
      await vi.waitFor(
        () => {
          const now = collected.text().length + written + response.writableLength
          const same = now === before && response.writableNeedDrain
          before = now
          expect(same).toBe(true)
        },
        { interval: 50, timeout: 5_000 },
      )
    }
    await blocked()
    expect(collected.parts.length).toBe(1)
    expect(written).toBeLessThan(16 * 1024 * 1024)
    const before = written
    collected.takes = true
    collected.call.resume()
    await eventually(() => expect(written).toBeGreaterThan(before + 1024 * 1024))
    response.off('drain', write)
    response.end(done)
    expect(await collected.over).toEqual({ kind: 'done' })
    expect(collected.text().length).toBe(written + done.length)
  })

  it('that is cancelled closes its connection and is not heard of again', async () => {
    const { client, first, sockets } = await heldRunner()
    const collected = infer(client)
    const response = await first()
    response.writeHead(200, ndjson)
    response.write(chunk('one'))
    await eventually(() => expect(collected.parts.length).toBe(1))
    collected.call.cancel()
    collected.call.cancel()
    await eventually(() => expect(sockets.size).toBe(0))
    expect(collected.ends).toBe(0)
    expect(collected.text()).toBe(chunk('one'))
  })

  it('that is cancelled while it is paused closes its connection', async () => {
    const { client, first, sockets } = await heldRunner()
    const collected = infer(client)
    collected.takes = false
    const response = await first()
    response.writeHead(200, ndjson)
    response.write(chunk('one'))
    await eventually(() => expect(collected.parts.length).toBe(1))
    collected.call.cancel()
    await eventually(() => expect(sockets.size).toBe(0))
    expect(collected.ends).toBe(0)
  })

  it('that is cancelled before it was sent is never sent, or its connection is closed', async () => {
    const { client, sockets } = await heldRunner()
    const collected = infer(client)
    collected.call.cancel()
    await client.health(AbortSignal.timeout(200)).catch(() => {})
    await eventually(() => expect(sockets.size).toBe(0))
    expect(collected.ends).toBe(0)
  })

  it.each([
    ['a known code', 422, { error: { code: 'REQUEST_INVALID', message: 'no text' } }, 'REQUEST_INVALID'],
    ['an unknown code', 500, { error: { code: 'WHATEVER', message: 'no' } }, 'INFERENCE_FAILED'],
    ['no error inside', 404, { detail: 'Not Found' }, 'RUNNER_PROTOCOL'],
    ['no JSON', 500, undefined, 'RUNNER_PROTOCOL'],
    [
      "the orchestrator's token refused",
      401,
      { error: { code: 'UNAUTHORIZED', message: 'wrong token' } },
      'RUNNER_PROTOCOL',
    ],
  ])('refused with %s has a code of the table', async (_name, status, body, code) => {
    const { client } = await scriptedRunner((_request, response) => {
      response.writeHead(status).end(body === undefined ? '<html>' : JSON.stringify(body))
    })
    const collected = infer(client)
    const outcome = await collected.over
    expect(outcome).toBeInstanceOf(BerthError)
    expect(outcome).toMatchObject({ code, details: { module: 'mod' } })
    expect(collected.parts).toEqual([])
  })

  it.each([
    ['after whole lines', chunk('one')],
    ['in the middle of a line', chunk('one').slice(0, 20)],
    ['without a byte', ''],
    ['in the terminal frame', `${chunk('one')}{"done":true}`],
  ])('whose stream ends %s is STREAM_INTERRUPTED', async (_name, bytes) => {
    const { client } = await scriptedRunner((_request, response) => {
      response.writeHead(200, ndjson).end(bytes)
    })
    const collected = infer(client)
    expect(await collected.over).toMatchObject({ code: 'STREAM_INTERRUPTED', origin: 'module' })
    expect(collected.text()).toBe(bytes)
  })

  it('whose connection breaks in the stream is STREAM_INTERRUPTED', async () => {
    const { client, first } = await heldRunner()
    const collected = infer(client)
    const response = await first()
    response.writeHead(200, ndjson)
    response.write(chunk('one'))
    await eventually(() => expect(collected.parts.length).toBe(1))
    response.destroy()
    expect(await collected.over).toMatchObject({ code: 'STREAM_INTERRUPTED' })
    expect(collected.ends).toBe(1)
  })

  it('whose connection breaks after its terminal frame has ended well', async () => {
    const { client, first } = await heldRunner()
    const collected = infer(client)
    const response = await first()
    response.writeHead(200, ndjson)
    response.write(chunk('one') + done)
    await eventually(() => expect(collected.text()).toBe(chunk('one') + done))
    response.destroy()
    expect(await collected.over).toEqual({ kind: 'done' })
  })

  it('whose connection breaks before the answer is RUNNER_UNREACHABLE', async () => {
    const { client } = await scriptedRunner((request) => void request.socket.destroy())
    expect(await infer(client).over).toMatchObject({ code: 'RUNNER_UNREACHABLE' })
  })

  it('on a client that is closed is RUNNER_UNREACHABLE', async () => {
    const { client } = await heldRunner()
    client.close()
    const collected = infer(client)
    expect(await collected.over).toMatchObject({ code: 'RUNNER_UNREACHABLE' })
    expect(collected.ends).toBe(1)
  })

  it('without a first chunk in time is INFERENCE_TIMEOUT, and its connection is closed', async () => {
    const { client, sockets } = await heldRunner()
    const outcome = await infer(client, { firstChunkMs: 50 }).over
    expect(outcome).toMatchObject({ code: 'INFERENCE_TIMEOUT', message: expect.stringContaining('first_chunk') })
    await eventually(() => expect(sockets.size).toBe(0))
  })

  it('without a further chunk in time is INFERENCE_TIMEOUT', async () => {
    const { client, first, sockets } = await heldRunner()
    const collected = infer(client, { betweenChunksMs: 50 })
    const response = await first()
    response.writeHead(200, ndjson)
    response.write(chunk('one'))
    expect(await collected.over).toMatchObject({
      code: 'INFERENCE_TIMEOUT',
      message: expect.stringContaining('between_chunks'),
    })
    await eventually(() => expect(sockets.size).toBe(0))
  })

  it('of an image that sends its headers early may take its time to the first chunk', async () => {
    const { client, first } = await heldRunner({ foreign: true })
    const collected = infer(client, { firstChunkMs: 60_000, betweenChunksMs: 20 })
    const response = await first()
    response.writeHead(200, ndjson)
    response.flushHeaders()
    await infer(client, { firstChunkMs: 100 }).over
    expect(collected.ends).toBe(0)
    response.end(`{"done":true}`)
    expect(await collected.over).toEqual({ kind: 'done' })
  })

  it('is not timed out by a client that reads slowly', async () => {
    const { client, first } = await heldRunner()
    const collected = infer(client, { betweenChunksMs: 50 })
    collected.takes = false
    const response = await first()
    response.writeHead(200, ndjson)
    response.write(chunk('one'))
    await eventually(() => expect(collected.parts.length).toBe(1))
    response.write(chunk('x'.repeat(100_000)))
    // Longer than the limit: the time of another inference that has none of its own.
    await infer(client, { firstChunkMs: 200 }).over
    expect(collected.ends).toBe(0)
    collected.takes = true
    collected.call.resume()
    response.end(done)
    expect(await collected.over).toEqual({ kind: 'done' })
  })

  it('uses connections again', async () => {
    const seen = new Set<unknown>()
    const { client } = await scriptedRunner((request, response) => {
      seen.add(request.socket)
      response.writeHead(200, ndjson).end(done)
    })
    for (let count = 0; count < 10; count += 1) await infer(client).over
    // Two: the next may be sent while the last byte of the one before is being read.
    expect(seen.size).toBeLessThanOrEqual(2)
  })

  it('does not wait for another', async () => {
    const { client, answers } = await heldRunner()
    const many = Array.from({ length: 20 }, () => infer(client))
    await eventually(() => expect(answers.length).toBe(20))
    for (const response of answers) response.writeHead(200, ndjson).end(done)
    expect(await Promise.all(many.map(({ over }) => over))).toEqual(Array(20).fill({ kind: 'done' }))
  })
})

describe('an image that other people wrote', () => {
  const answered = async (text: string, cuts: readonly number[] = []) => {
    const { client } = await scriptedRunner(
      (_request, response) => {
        response.writeHead(200, ndjson)
        let from = 0
        for (const cut of cuts) {
          response.write(text.slice(from, cut))
          from = cut
        }
        response.end(text.slice(from))
      },
      { foreign: true },
    )
    const collected = infer(client)
    const outcome = await collected.over
    expect(collected.ends).toBe(1)
    const frames = collected
      .text()
      .split('\n')
      .filter((line) => line !== '')
    return { outcome, frames, text: collected.text() }
  }
  const wrapped = (response: object) => JSON.stringify({ chunk: { response, warnings: [], errors: [] } })

  it('may leave out response, have whitespace anywhere, and no newline at the end', async () => {
    const { outcome, frames, text } = await answered(
      ' { "chunk" : { "text" : "a" } } \r\n\n{"chunk":{"files":["f"],"extra":{"k":1},"warnings":["w"]}}\n{"chunk":{"response":{"text":"b"}}}\n {"conversation":[1], "done" : true } ',
    )
    expect(outcome).toEqual({ kind: 'done' })
    expect(frames).toEqual([
      wrapped({ text: 'a' }),
      '{"chunk":{"response":{"files":["f"],"extra":{"k":1}},"warnings":["w"],"errors":[]}}',
      wrapped({ text: 'b' }),
      '{"done":true,"conversation":[1]}',
    ])
    expect(text.endsWith('\n')).toBe(true)
  })

  it('has its numbers handed on as it wrote them', async () => {
    const numbers = '{"f":1.0,"n":1180591620717411303424,"i":1}'
    const { frames } = await answered(`{"chunk":{"extra":${numbers}}}\n{"done":true,"conversation":[${numbers}]}\n`)
    expect(frames).toEqual([
      `{"chunk":{"response":{"extra":${numbers}},"warnings":[],"errors":[]}}`,
      `{"done":true,"conversation":[${numbers}]}`,
    ])
  })

  it('may cut its lines anywhere, in the middle of a character too', async () => {
    const text = '{"chunk":{"text":"größe 三"}}\n{"done":true}'
    const { frames } = await answered(text, [5, 21, 22, 26])
    expect(frames[0]).toBe(wrapped({ text: 'größe 三' }))
  })

  it('has its error made whole', async () => {
    const { outcome, frames } = await answered('{"error":{"message":"bad","code":"TEAPOT"}}')
    expect(outcome).toEqual({ kind: 'error', code: 'INFERENCE_FAILED' })
    expect(JSON.parse(frames[0] ?? '')).toEqual({
      error: {
        code: 'INFERENCE_FAILED',
        message: 'bad',
        retryable: false,
        origin: 'module',
        details: { module: 'mod' },
      },
    })
  })

  it('that sends a line that is no frame ends with RUNNER_PROTOCOL there', async () => {
    for (const garbage of ['hello', '[]', '{"text":"a"}', '{"chunk":"a"}']) {
      const { outcome, frames } = await answered(
        `{"chunk":{"text":"a"}}\n${garbage}\n{"chunk":{"text":"b"}}\n{"done":true}\n`,
      )
      expect(outcome, garbage).toMatchObject({ code: 'RUNNER_PROTOCOL', message: expect.stringContaining(garbage) })
      expect(frames).toEqual([wrapped({ text: 'a' })])
    }
  })

  it('that sends such a line is not listened to any longer', async () => {
    const { client, first, sockets } = await heldRunner({ foreign: true })
    const collected = infer(client)
    const response = await first()
    response.writeHead(200, ndjson)
    response.write('hello\n')
    expect(await collected.over).toMatchObject({ code: 'RUNNER_PROTOCOL' })
    await eventually(() => expect(sockets.size).toBe(0))
    expect(collected.ends).toBe(1)
  })

  it('that ends without a terminal frame is STREAM_INTERRUPTED', async () => {
    const { outcome, frames } = await answered('{"chunk":{"text":"a"}}\n')
    expect(outcome).toMatchObject({ code: 'STREAM_INTERRUPTED', origin: 'module' })
    expect(frames).toEqual([wrapped({ text: 'a' })])
  })

  it('has nothing handed on after its terminal frame', async () => {
    const { outcome, frames } = await answered('{"done":true}\n{"chunk":{"text":"late"}}\n{"done":true}\n')
    expect(outcome).toEqual({ kind: 'done' })
    expect(frames).toEqual(['{"done":true}'])
  })

  it('that hangs after its terminal frame has ended well', async () => {
    const { client, first } = await heldRunner({ foreign: true })
    const collected = infer(client, { firstChunkMs: 50, betweenChunksMs: 50 })
    const response = await first()
    response.writeHead(200, ndjson)
    response.write('{"chunk":{"text":"a"}}\n { "done" : true }\n')
    expect(await collected.over).toEqual({ kind: 'done' })
  })
})
