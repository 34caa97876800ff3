import { describe, expect, it } from 'vitest'
import { eventually, extraOf, textOf, workers } from './support.ts'
import type { WorkerProcess } from './worker-process.ts'

const start = workers()
const doing = (what: string, more: Record<string, unknown> = {}) => ({ do: what, ...more })

async function yields(): Promise<WorkerProcess> {
  const worker = await start({ module: 'yields' })
  await worker.status()
  return worker
}

describe('inference', () => {
  it('streams each yield as one complete line', async () => {
    const worker = await yields()
    expect(await worker.infer('m', doing('texts'))).toEqual({
      chunks: [
        { response: { text: 'one ' }, warnings: [], errors: [] },
        { response: { text: 'two' }, warnings: [], errors: [] },
      ],
      end: { done: true },
    })
  })

  it('serves one inference after the other on a slot, and several slots at once', async () => {
    const worker = await yields()
    const slots = await Promise.all([worker.openSlot('a'), worker.openSlot(7)])
    expect(slots.map((slot) => slot.hello)).toEqual([
      { role: 'slot', slot: 'a', token: 'the token' },
      { role: 'slot', slot: 7, token: 'the token' },
    ])
    for (let round = 0; round < 3; round++) {
      const replies = await Promise.all(slots.map((slot) => slot.infer('m', doing('texts'))))
      expect(replies.map(({ chunks }) => textOf(chunks))).toEqual(['one two', 'one two'])
    }
  })

  it('takes requests of any size and passes numbers with a point as float', async () => {
    const worker = await yields()
    const filler = 'y'.repeat(3_000_000)
    const slot = await worker.openSlot()
    const { chunks } = await slot.infer('m', `{"do":"types","values":{"a":1.0,"b":1,"c":-2e3},"filler":"${filler}"}`)
    expect(extraOf(chunks)).toEqual({ a: 'float', b: 'int', c: 'float' })
  })

  it('gives the module name, configuration, parameters, an empty conversation and key_info', async () => {
    const worker = await yields()
    const { chunks } = await worker.infer('m', doing('arguments'), { width: 3 })
    expect(extraOf(chunks)).toEqual({
      name: 'm',
      config: { width: 3 },
      parameters: { do: 'arguments', conversation: [], key_info: { Key: 'nokey', Groups: [] } },
    })
  })

  it('turns text contents into lists and keeps the key_info that was sent', async () => {
    const worker = await yields()
    const image = { type: 'image', image: 'aGk=' }
    const parameters = doing('arguments', {
      conversation: [
        { role: 'user', content: 'hi' },
        { role: 'user', content: [image] },
      ],
      key_info: { Key: 'mine', Groups: ['g'] },
    })
    expect(extraOf((await worker.infer('m', parameters)).chunks)).toMatchObject({
      parameters: {
        conversation: [
          { role: 'user', content: [{ type: 'text', text: 'hi' }] },
          { role: 'user', content: [image] },
        ],
        key_info: { Key: 'mine', Groups: ['g'] },
      },
    })
  })

  it.each([
    ['nothing', ''],
    ['as_list', 'ab'],
  ])('takes a function that returns %s', async (what, text) => {
    const { chunks, end } = await (await yields()).infer('m', doing(what))
    expect(end).toEqual({ done: true })
    expect(textOf(chunks)).toBe(text)
  })

  it('sends bytes anywhere in files as base64', async () => {
    const { chunks } = await (await yields()).infer('m', doing('files'))
    expect(chunks.map((chunk) => chunk.response)).toEqual([
      {
        files: [
          { type: 'image', image: Buffer.from([0, 255, 112, 110, 103]).toString('base64') },
          { type: 'audio', audio: Buffer.from('wav').toString('base64') },
        ],
      },
      { text: 'and ', files: [{ type: 'file', file: Buffer.from('last').toString('base64'), name: 'a.txt' }] },
    ])
  })

  it('drops unknown keys, saying so once, and never sends private ones', async () => {
    const worker = await yields()
    for (let round = 0; round < 2; round++) {
      const { chunks } = await worker.infer('m', doing('kept_back'))
      expect(chunks).toEqual([{ response: { text: 'secret' }, warnings: [], errors: [] }])
    }
    await eventually(() => expect(worker.logs).toHaveLength(1))
    expect(worker.logs[0]).toMatchObject({ level: 'debug', message: expect.stringContaining("'unknown'") })
  })

  it('passes empty yields, warnings, errors and extra', async () => {
    const items = [{}, { warnings: ['w'] }, { errors: [{ e: 1 }], extra: { a: [1] } }, { text: null, files: null }]
    const { chunks } = await (await yields()).infer('m', doing('items', { items }))
    expect(chunks).toEqual([
      { response: {}, warnings: [], errors: [] },
      { response: {}, warnings: ['w'], errors: [] },
      { response: { extra: { a: [1] } }, warnings: [], errors: [{ e: 1 }] },
      { response: {}, warnings: [], errors: [] },
    ])
  })

  it('passes 10 MB of text in one yield', async () => {
    const { chunks } = await (await yields()).infer('m', doing('large', { size: 10_000_000 }))
    expect(textOf(chunks)).toHaveLength(10_000_000)
  })

  it('carries any text, half a surrogate pair too', async () => {
    const { chunks } = await (await yields()).infer('m', doing('half_a_pair'))
    expect(textOf(chunks)).toBe('a\ud800bü€😀')
  })

  it('turns arrays into lists', async () => {
    const { chunks } = await (await yields()).infer('m', doing('like_numpy'))
    expect(extraOf(chunks)).toEqual({ embedding: [0.25, 0.5] })
  })

  it('leaves prints to the log', async () => {
    const worker = await yields()
    expect(textOf((await worker.infer('m', doing('prints'))).chunks)).toBe('ok')
    await eventually(() => {
      for (const line of ['to standard output', 'to standard error', 'raw bytes'])
        expect(worker.printed).toContain(line)
    })
  })
})

describe('conversation', () => {
  const asked = { role: 'user', content: [{ type: 'text', text: 'hi' }] }

  it('gets the reply once: all text in one entry, then all files', async () => {
    const { end } = await (await yields()).infer('m', doing('files', { conversation: [asked] }))
    expect(end.conversation).toEqual([
      asked,
      {
        role: 'assistant',
        content: [
          { type: 'text', text: 'and ' },
          { type: 'image', image: Buffer.from([0, 255, 112, 110, 103]).toString('base64') },
          { type: 'audio', audio: Buffer.from('wav').toString('base64') },
          { type: 'file', file: Buffer.from('last').toString('base64'), name: 'a.txt' },
        ],
      },
    ])
  })

  it('is returned for an empty one too, and left out when none was sent', async () => {
    const worker = await yields()
    expect((await worker.infer('m', doing('texts', { conversation: [] }))).end.conversation).toEqual([
      { role: 'assistant', content: [{ type: 'text', text: 'one two' }] },
    ])
    expect((await worker.infer('m', doing('texts'))).end).toEqual({ done: true })
  })

  it('stays as it is when a yield says so, when the module has appended, and without any reply', async () => {
    const worker = await yields()
    const kept = await worker.infer('m', doing('kept_back', { conversation: [asked] }))
    expect(kept.end.conversation).toEqual([asked])
    const own = await worker.infer('m', doing('appends_itself', { conversation: [asked] }))
    expect(own.end.conversation).toEqual([asked, { role: 'assistant', content: [{ type: 'text', text: 'mine' }] }])
    const none = await worker.infer('m', doing('nothing', { conversation: [asked] }))
    expect(none.end.conversation).toEqual([asked])
  })

  it('goes on after an earlier reply of the assistant', async () => {
    const earlier = { role: 'assistant', content: [{ type: 'text', text: 'one two' }] }
    const { end } = await (await yields()).infer('m', doing('texts', { conversation: [asked, earlier] }))
    expect(end.conversation).toEqual([asked, earlier, earlier])
  })
})
