import { once } from 'node:events'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { berth, finished, start } from './command.ts'
import { chunk, type FakeApi, give, minilm, startFakeApi, stream } from './fake-api.ts'

const png = Buffer.from('89504e470d0a1a0a0000000d49484452', 'hex')
let api: FakeApi
let folder: string
beforeAll(async () => {
  api = await startFakeApi()
  api.on('GET /api/modules', give({ modules: [minilm] }))
  folder = await mkdtemp(path.join(tmpdir(), 'berth-cli-'))
})
afterAll(async () => {
  await api.close()
  await rm(folder, { recursive: true, force: true })
})

const infer = (model: string): string => `POST /api/models/${model}/infer`
const asked = (): unknown => api.requests.findLast(({ call }) => call.endsWith('/infer'))?.body

describe('infer', () => {
  it('prints text as it comes, before the answer is complete', async () => {
    const more = Promise.withResolvers<void>()
    api.on(infer('llama'), async (response) => {
      response.writeHead(200, { 'content-type': 'application/x-ndjson' })
      response.write(`${JSON.stringify(chunk({ text: 'Ahoy' }))}\n`)
      await more.promise
      response.end(`${JSON.stringify(chunk({ text: ', sailor' }))}\n{"done":true}\n`)
    })
    const child = start(['infer', 'llama', 'greet'], { url: api.url })
    const [first] = await once(child.stdout, 'data')
    expect(String(first)).toBe('Ahoy')
    more.resolve()
    expect(await finished(child)).toEqual({ code: 0, stdout: ', sailor\n', stderr: '' })
    expect(asked()).toEqual({
      config: {},
      parameters: {},
      conversation: [{ role: 'user', content: [{ type: 'text', text: 'greet' }] }],
    })
  })

  it('prints an embedding by its size and first numbers, whole with --json', async () => {
    const embedding = Array.from({ length: 384 }, (_, index) => index / 1000)
    api.on(infer('minilm'), stream(chunk({ extra: { embedding, usage: { total_tokens: 7 } } }), { done: true }))
    const { stdout } = await berth(['infer', 'minilm', 'a cat'], { url: api.url })
    expect(stdout).toBe(
      'embedding: 384 numbers [0.000000, 0.001000, 0.002000, 0.003000, 0.004000, 0.005000, ...]\nusage: {"total_tokens":7}\n',
    )
    const whole = { response: { extra: { embedding } }, warnings: [], errors: [] }
    api.on(infer('minilm'), give(whole))
    const json = await berth(['infer', 'minilm', 'a cat', '--json'], { url: api.url })
    expect(JSON.parse(json.stdout)).toEqual(whole)
    expect(asked()).toMatchObject({ stream: false })
  })

  it('reads standard input, sends parameters as JSON where they are JSON', async () => {
    api.on(infer('llama'), stream({ done: true }))
    const args = [
      'infer',
      'llama',
      '-',
      '--param',
      'temperature=0.2',
      '-p',
      'stop=["a"]',
      '-p',
      'name=cat=1',
      '--config',
      'top={"k":1}',
    ]
    expect(await berth(args, { url: api.url, input: 'from a pipe\n' })).toEqual({ code: 0, stdout: '', stderr: '' })
    expect(asked()).toEqual({
      config: { top: { k: 1 } },
      parameters: { temperature: 0.2, stop: ['a'], name: 'cat=1' },
      conversation: [{ role: 'user', content: [{ type: 'text', text: 'from a pipe' }] }],
    })
  })

  it('sends each file as the kind that its content is', async () => {
    const files = { 'a.png': png, 'b.wav': Buffer.from('RIFF....WAVEfmt '), 'c.txt': Buffer.from('plain') }
    for (const [name, data] of Object.entries(files)) await writeFile(path.join(folder, name), data)
    api.on(infer('eyes'), stream({ done: true }))
    await berth(['infer', 'eyes', 'look', '-f', 'a.png', '-f', 'b.wav', '-f', 'c.txt'], { url: api.url, cwd: folder })
    expect(asked()).toMatchObject({
      conversation: [
        {
          content: [
            { type: 'text', text: 'look' },
            { type: 'image', image: png.toString('base64') },
            { type: 'audio', audio: files['b.wav'].toString('base64') },
            { type: 'file', file: files['c.txt'].toString('base64'), name: 'c.txt' },
          ],
        },
      ],
    })
    const missing = await berth(['infer', 'eyes', '-f', 'none.png'], { url: api.url, cwd: folder })
    expect(missing).toMatchObject({ code: 1, stdout: '' })
    expect(missing.stderr).toContain("none.png can't be read")
  })

  it('saves files under safe names and never over another file', async () => {
    const image = { type: 'image', image: png.toString('base64') }
    const named = { type: 'file', file: Buffer.from('x').toString('base64'), name: '../../escape.txt' }
    api.on(infer('painter'), stream(chunk({ files: [image, named] }), { done: true }))
    const out = path.join(folder, 'out')
    for (const _ of [1, 2]) await berth(['infer', 'painter', 'a harbour', '-o', out], { url: api.url })
    expect((await readdir(out)).sort()).toEqual(['1-2.png', '1.png', 'escape-2.txt', 'escape.txt'])
    expect(await readFile(path.join(out, '1.png'))).toEqual(png)
    const unsaved = await berth(['infer', 'painter', 'a harbour'], { url: api.url })
    expect(unsaved.stderr).toContain('file 1: image, 16 B (--output DIR saves it)')
  })

  it('says its place in the queue and warnings on stderr', async () => {
    const frames = [{ queued: { position: 2 } }, chunk({ text: 'done\n' }, ['little memory']), { done: true }]
    api.on(infer('busy'), stream(...frames))
    expect(await berth(['infer', 'busy', 'x'], { url: api.url })).toEqual({
      code: 0,
      stdout: 'done\n',
      stderr: 'busy: waiting in the queue: place 2\nwarning: little memory\n',
    })
  })

  it('fails when the stream ends with an error, or without an end', async () => {
    const error = { code: 'INFERENCE_FAILED', message: 'llama: out of ideas', retryable: false, origin: 'module' }
    api.on(infer('llama'), stream(chunk({ text: 'half' }), { error }))
    const failed = await berth(['infer', 'llama', 'x'], { url: api.url })
    expect(failed).toEqual({
      code: 1,
      stdout: 'half\n',
      stderr: 'berth: llama: out of ideas\n  code: INFERENCE_FAILED\n',
    })

    api.on(infer('llama'), stream(chunk({ text: 'half' })))
    const cut = await berth(['infer', 'llama', 'x'], { url: api.url })
    expect(cut.code).toBe(1)
    expect(cut.stderr).toContain('broke before llama had finished')

    api.on(infer('llama'), (response) => {
      response.writeHead(200)
      response.write('{"queued":{"position":1}}\n', () => response.destroy())
    })
    const reset = await berth(['infer', 'llama', 'x'], { url: api.url })
    expect(reset.code).toBe(1)
    expect(reset.stderr).toContain('broke before the answer was complete')
  })

  it('closes its connection on Ctrl-C, which cancels the inference, and ends with 130', async () => {
    const closed = Promise.withResolvers<void>()
    api.on(infer('slow'), (response) => {
      response.on('close', closed.resolve)
      response.writeHead(200)
      response.write(`${JSON.stringify(chunk({ text: 'one' }))}\n`)
    })
    const child = start(['infer', 'slow', 'x'], { url: api.url })
    await once(child.stdout, 'data')
    child.kill('SIGINT')
    await closed.promise
    expect(await finished(child)).toMatchObject({ code: 130, stderr: '' })
  })

  it('passes 10 MB of text in one line', async () => {
    const text = 'abcdefghij'.repeat(1_000_000)
    api.on(infer('long'), stream(chunk({ text }), { done: true }))
    const { code, stdout } = await berth(['infer', 'long', 'x'], { url: api.url })
    expect({ code, same: stdout === `${text}\n` }).toEqual({ code: 0, same: true })
  })
})
