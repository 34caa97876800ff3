import { describe, expect, it } from 'vitest'
import { eventually, extraOf, textOf, workers } from './support.ts'
import type { Reply, WorkerProcess } from './worker-process.ts'

const start = workers()
const chunk = (text: string) => ({ chunk: { response: { text }, warnings: [], errors: [] } })

async function caller(models = '{"m":{}}'): Promise<WorkerProcess> {
  return await start({ module: 'caller', calls: ['friend'], models })
}

/** Starts an inference and gives its reply's promise and the call that it makes. */
async function calling(worker: WorkerProcess, what: string): Promise<{ reply: Promise<Reply>; id: unknown }> {
  const seen = worker.calls.length
  const reply = worker.infer('m', { do: what, model: 'friend' })
  await eventually(() => expect(worker.calls.length).toBe(seen + 1))
  return { reply, id: worker.calls[seen]?.id }
}

describe('services_manager', () => {
  it('streams another model, telling what it was asked for; bytes travel as base64', async () => {
    const worker = await caller()
    const { reply, id } = await calling(worker, 'infer')
    expect(worker.calls[0]).toEqual({
      id,
      kind: 'infer',
      model: 'friend',
      prompt: { conversation: [], media: 'AQ==' },
      parameters: { a: 1 },
    })
    worker.result(id, chunk('hel'))
    worker.result(id, chunk('lo'))
    worker.result(id, { done: true })
    const { chunks, end } = await reply
    expect(textOf(chunks)).toBe('HELLO')
    expect(extraOf(chunks)).toEqual({ keys: ['errors', 'response', 'text', 'warnings'] })
    expect(end).toEqual({ done: true })
  })

  it('lets a module pass the answer on as it is', async () => {
    const worker = await caller()
    const { reply, id } = await calling(worker, 'pass_on')
    const response = { text: 't', files: [{ type: 'image', image: 'aGk=' }], extra: { n: 1 } }
    worker.result(id, { chunk: { response, warnings: ['w'], errors: [] } })
    worker.result(id, { done: true })
    expect((await reply).chunks).toEqual([{ response, warnings: ['w'], errors: [] }])
  })

  it('cancels a call whose answers the module no longer reads', async () => {
    const worker = await caller()
    const { reply, id } = await calling(worker, 'first_only')
    worker.result(id, chunk('one'))
    expect(textOf((await reply).chunks)).toBe('one enough')
    await eventually(() => expect(worker.calls).toHaveLength(2))
    expect(worker.calls[1]).toEqual({ id, kind: 'cancel' })
  })

  it('tells how many results were taken, so that the runner can hold the rest back', async () => {
    const worker = await caller()
    const { reply, id } = await calling(worker, 'infer')
    for (let index = 0; index < 40; index++) worker.result(id, chunk('x'))
    worker.result(id, { done: true })
    await reply
    await eventually(() =>
      expect(worker.windows).toEqual([
        { call: id, frames: 16 },
        { call: id, frames: 16 },
      ]),
    )
  })

  it('refuses a model that `calls` does not name, without asking anyone', async () => {
    const worker = await caller()
    const { chunks } = await worker.infer('m', { do: 'refused', model: 'stranger' })
    expect(textOf(chunks)).toBe(
      "module caller may not call model 'stranger': add it to `calls:` in the module's module.yaml",
    )
    expect(worker.calls).toEqual([])
  })

  it('refuses to send what JSON has no form for, without asking anyone', async () => {
    const worker = await caller()
    const { chunks } = await worker.infer('m', { do: 'unfit', model: 'friend' })
    expect(textOf(chunks).split('\n')).toEqual([
      "ValueError: the number nan can't be sent to another model: JSON has neither NaN nor infinities",
      "ValueError: the number -inf can't be sent to another model: JSON has neither NaN nor infinities",
      "TypeError: a dict with the key 1 can't be sent to another model: keys have to be strings",
      "TypeError: a object can't be sent to another model",
      '',
    ])
    expect(worker.calls).toEqual([])
  })

  it('raises PermissionError when the gateway refuses, and names any other failure', async () => {
    const worker = await caller()
    const refused = await calling(worker, 'refused')
    worker.result(refused.id, { error: { code: 'FORBIDDEN', message: 'not you' } })
    expect(textOf((await refused.reply).chunks)).toBe('not you')
    const failed = await calling(worker, 'infer')
    worker.result(failed.id, { error: { code: 'MODEL_NOT_FOUND', message: 'no such model' } })
    expect((await failed.reply).end.error?.message).toContain('CallError: no such model')
  })

  it('loads, offloads, asks for configurations without private keys, and for services', async () => {
    const worker = await caller('{"m":{"a":1,"_private_x":2}}')
    const reply = worker.infer('m', { do: 'others' })
    const values: Record<string, unknown> = {
      configuration: { b: 1, _secret: 2, inner: { _x: 1, y: 2 } },
      installed: true,
    }
    for (let index = 0; index < 4; index++) {
      await eventually(() => expect(worker.calls.length).toBe(index + 1))
      const call = worker.calls[index]
      worker.result(call?.id, { done: true, value: values[String(call?.kind)] })
    }
    expect(extraOf((await reply).chunks)).toEqual({
      configuration: { b: 1, inner: { y: 2 } },
      own: { a: 1 },
      installed: true,
    })
    expect(worker.calls.map(({ id: _, ...call }) => call)).toEqual([
      { kind: 'load', names: ['friend'] },
      { kind: 'offload', names: ['friend'] },
      { kind: 'configuration', model: 'friend' },
      { kind: 'installed', names: ['chatbot'] },
    ])
  })
})
